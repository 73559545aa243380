// Limits of nested control groups: in made-up trees of both versions, and in a real one where this
// process may make groups.
#include "launcher/machine/control_groups.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ControlGroups : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = folder_.path() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  /// The process is in `path` of a hierarchy that is mounted as mountinfo says.
  void join(const std::string& cgroup, const std::string& mountinfo) {
    write("proc/self/cgroup", cgroup);
    write("proc/self/mountinfo", mountinfo);
  }
  void memory(const std::string& group, const std::string& limit, const std::string& usage) {
    write(group + "/memory.max", limit);
    write(group + "/memory.current", usage);
  }
  void old_memory(const std::string& group, const std::string& limit, const std::string& usage) {
    write(group + "/memory.limit_in_bytes", limit);
    write(group + "/memory.usage_in_bytes", usage);
  }
  std::vector<double> rooms() const { return amounts(memory_limits(folder_.path())); }
  std::vector<double> cores() const { return amounts(processor_limits(folder_.path())); }

  static std::vector<double> amounts(const std::vector<GroupLimit>& limits) {
    std::vector<double> all;
    for (const GroupLimit& limit : limits) all.push_back(limit.amount);
    return all;
  }

  support::ScratchFolder folder_;
};

constexpr const char* kNewer = "30 23 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n";
constexpr const char* kOlder =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
constexpr const char* kUnlimited = "9223372036854771712\n";

TEST_F(ControlGroups, EveryGroupUpToTheRootCounts) {
  join("0::/slurm/job_7/step_0\n", kNewer);
  memory("sys/fs/cgroup/slurm/job_7/step_0", "max\n", "100\n");
  memory("sys/fs/cgroup/slurm/job_7", "1000\n", "100\n");
  memory("sys/fs/cgroup/slurm", "5000\n", "4500\n");
  memory("sys/fs/cgroup/slurm/job_8", "1\n", "1\n");  // somebody else's
  const auto limits = memory_limits(folder_.path());
  ASSERT_EQ(limits.size(), 2U);
  EXPECT_EQ(limits[0].name, "/slurm/job_7");
  EXPECT_EQ(limits[0].amount, 900);
  EXPECT_EQ(limits[1].name, "/slurm");
  EXPECT_EQ(limits[1].amount, 500);
  EXPECT_NE(limits[0].id, limits[1].id);
}

TEST_F(ControlGroups, PageCacheCountsAsFree) {
  join("0::/\n", kNewer);
  memory("sys/fs/cgroup", "1000\n", "900\n");
  EXPECT_THAT(rooms(), ElementsAre(100));
  write("sys/fs/cgroup/memory.stat",
        "anon 200\nfile 700\ninactive_anon 200\nactive_anon 0\ninactive_file 500\n"
        "active_file 150\nworkingset_refault_file 77\n");
  EXPECT_THAT(rooms(), ElementsAre(750));
  write("sys/fs/cgroup/memory.stat", "inactive_file 5000\n");  // not read at one moment
  EXPECT_THAT(rooms(), ElementsAre(1000));
  memory("sys/fs/cgroup", "1000\n", "7000\n");
  EXPECT_THAT(rooms(), ElementsAre(0));
}

TEST_F(ControlGroups, WhereTheKernelSlowsAGroupDownIsALimit) {
  join("0::/job\n", kNewer);
  memory("sys/fs/cgroup/job", "1000\n", "100\n");
  write("sys/fs/cgroup/job/memory.high", "600\n");
  EXPECT_THAT(rooms(), ElementsAre(500));
  memory("sys/fs/cgroup/job", "max\n", "100\n");
  EXPECT_THAT(rooms(), ElementsAre(500));
  write("sys/fs/cgroup/job/memory.high", "max\n");
  EXPECT_THAT(rooms(), IsEmpty());
}

TEST_F(ControlGroups, OfVersionOneTheChildrenCountToo) {
  join("9:cpu,cpuacct:/\n4:memory:/uid_0/job_7\n0::/\n", kOlder);
  old_memory("sys/fs/cgroup/memory", kUnlimited, "99999\n");
  old_memory("sys/fs/cgroup/memory/uid_0", kUnlimited, "9999\n");
  old_memory("sys/fs/cgroup/memory/uid_0/job_7", "1000\n", "900\n");
  write("sys/fs/cgroup/memory/uid_0/job_7/memory.stat",
        "cache 9\ninactive_file 5\nactive_file 4\nhierarchical_memory_limit 1000\n"
        "total_inactive_file 400\ntotal_active_file 200\n");
  EXPECT_THAT(rooms(), ElementsAre(700));
}

TEST_F(ControlGroups, AContainerSeesItsOwnGroupAsTheRoot) {
  // Version 1, bind-mounted: the path of the group is that of the host.
  join("4:memory:/docker/abc/task\n",
       "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  old_memory("sys/fs/cgroup/memory", kUnlimited, "400\n");
  old_memory("sys/fs/cgroup/memory/task", "3000\n", "100\n");
  EXPECT_THAT(rooms(), ElementsAre(2900));
  // A limit above the container is told by the group itself.
  write("sys/fs/cgroup/memory/memory.stat", "hierarchical_memory_limit 2000\n");
  EXPECT_THAT(rooms(), ElementsAre(2900, 1600));
}

TEST_F(ControlGroups, APathThatIsNotBelowTheMountIsItsRoot) {
  memory("sys/fs/cgroup", "1000\n", "100\n");
  memory("sys/fs/cgroup/docker", "1\n", "0\n");
  for (const char* path : {"/../other", "/docker2", "/"}) {
    join(std::string("0::") + path + "\n",
         "30 23 0:26 /docker /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    EXPECT_THAT(rooms(), ElementsAre(900)) << path;
  }
}

TEST_F(ControlGroups, BlanksInAMountPointAreRead) {
  join("0::/\n", "30 23 0:26 / /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n");
  memory("mnt/my groups", "1000\n", "100\n");
  EXPECT_THAT(rooms(), ElementsAre(900));
}

TEST_F(ControlGroups, WithoutGroupsOrLimitsThereIsNone) {
  EXPECT_THAT(rooms(), IsEmpty());
  EXPECT_THAT(cores(), IsEmpty());
  join("0::/job\nnonsense\n", "nonsense\n");
  EXPECT_THAT(rooms(), IsEmpty());
}

TEST_F(ControlGroups, ProcessorTimeOfVersionTwo) {
  join("0::/job/step\n", kNewer);
  write("sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/job/cpu.max", "250000 100000\n");
  EXPECT_THAT(cores(), ElementsAre(2.5));
}

TEST_F(ControlGroups, ProcessorTimeOfVersionOne) {
  join("9:cpu,cpuacct:/job\n4:memory:/\n", kOlder);
  write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
  write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(cores(), ElementsAre(3));
}

/// A real group below this process's own, and what a child in it finds there.
class RealGroup {
 public:
  explicit RealGroup(const std::string& hierarchy) {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
      const std::string key = ":" + hierarchy + ":";
      const std::size_t at = line.find(key);
      if (at == std::string::npos) continue;
      const std::filesystem::path own = line.substr(at + key.size() + 1);
      path_ = "/sys/fs/cgroup" / std::filesystem::path(hierarchy) / own /
              ("sluice-test-" + std::to_string(getpid()));
    }
    std::error_code error;
    made_ = !path_.empty() && std::filesystem::create_directory(path_, error);
  }
  ~RealGroup() {
    if (made_) rmdir(path_.c_str());
  }
  bool set(const char* file, const std::string& value) const {
    return made_ && static_cast<bool>(std::ofstream(path_ / file) << value << std::flush);
  }
  /// The exit status of `look` in a child that has joined the group.
  int run(const std::function<int()>& look) const {
    const pid_t child = fork();
    if (child == 0) {
      std::ofstream(path_ / "cgroup.procs") << getpid() << std::flush;
      _exit(look());
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  std::filesystem::path path_;
  bool made_ = false;
};

TEST(RealControlGroup, ItsMemoryLimitIsFound) {
  const RealGroup group("memory");
  if (!group.set("memory.limit_in_bytes", "67108864")) {
    GTEST_SKIP() << "no group of cgroup version 1 can be made here";
  }
  EXPECT_EQ(group.run([] {
    const auto limits = memory_limits();
    if (limits.empty()) return 1;
    return limits.front().amount > 32 << 20 && limits.front().amount <= 64 << 20 ? 0 : 2;
  }),
            0);
}

TEST(RealControlGroup, ItsProcessorTimeIsFound) {
  const RealGroup group("cpu");
  if (!group.set("cpu.cfs_quota_us", "150000")) {
    GTEST_SKIP() << "no group of cgroup version 1 can be made here";
  }
  EXPECT_EQ(group.run([] {
    const auto limits = processor_limits();
    return !limits.empty() && limits.front().amount == 1.5 ? 0 : 1;
  }),
            0);
}

}  // namespace
}  // namespace sluice::launcher
