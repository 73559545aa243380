// What the engine chooses at run time, and says: io_uring or threads, past the page cache or
// through it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "offload/disk/disk_engine.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Runs `body` in a process where some system calls are refused (in a child, as a filter is for
// ever). -1: such filters are not permitted here. Else what it returned, or 3 where it threw.
int in_child(const std::vector<sock_filter>& rules, const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const sock_fprog program = {static_cast<unsigned short>(rules.size()),
                                const_cast<sock_filter*>(rules.data())};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
      ::_exit(77);
    }
    int status = 3;
    try {
      status = body();
    } catch (...) {
    }
    ::_exit(status);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 2;
  return WEXITSTATUS(status) == 77 ? -1 : WEXITSTATUS(status);
}

bool round_trip(DiskEngine& engine, FileId file) {
  IoGroup group;
  const std::string text = "hello" + std::string(kDiskBlock - 5, '!');
  engine.write(file, 0, text.size(), text.data(), group);
  group.wait();
  char got[5] = {};
  engine.read(file, 0, 5, got, group);
  group.wait();
  return std::string(got, 5) == "hello";
}

TEST(DiskChoice, SaysWhichVariantRuns) {
  DiskOptions options;
  options.allow_io_uring = false;
  EXPECT_EQ(DiskEngine::make(options)->description(), "threads (io_uring switched off)");
}

// Docker's default: io_uring_setup is answered with EPERM.
TEST(DiskChoice, WhereIoUringIsRefusedThreadsServe) {
  support::ScratchFolder folder;
  const int status = in_child(
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
      [&folder] {
        const auto engine = DiskEngine::make({});
        if (engine->description() != "threads (io_uring refused: Operation not permitted)") {
          return 1;
        }
        return round_trip(*engine, engine->create(folder.path() / "file", 5)) ? 0 : 4;
      });
  if (status < 0) GTEST_SKIP() << "seccomp filters are not permitted here";
  EXPECT_EQ(status, 0);
}

// As network file systems and old overlays do.
TEST(DiskChoice, WhereDirectFilesAreRefusedThePageCacheServes) {
  support::ScratchFolder folder;
  const std::string path = (folder.path() / "file").string();
  const int status = in_child(
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fcntl, 0, 3),
       BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
       BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_DIRECT, 0, 1),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
      [&path] {
        DiskOptions options;
        options.allow_io_uring = false;
        options.least_direct_bytes = 0;
        const auto engine = DiskEngine::make(options);
        const FileId file = engine->create(path, kDiskBlock);
        const std::string expected =
            "threads (io_uring switched off), through the page cache (O_DIRECT refused for " +
            path + ": Invalid argument (EINVAL))";
        if (engine->description() != expected) return 1;
        return round_trip(*engine, file) ? 0 : 4;
      });
  if (status < 0) GTEST_SKIP() << "seccomp filters are not permitted here";
  EXPECT_EQ(status, 0);
}

// ------------------------------------------------------------------------------------ the page
// cache

// Pages of a file that the page cache holds.
std::size_t cached_pages(const std::filesystem::path& path) {
  const std::size_t bytes = std::filesystem::file_size(path);
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  ::close(descriptor);
  if (memory == MAP_FAILED) throw IoError("cannot map " + path.string());
  std::vector<unsigned char> pages((bytes + 4095) / 4096);
  const int result = ::mincore(memory, bytes, pages.data());
  ::munmap(memory, bytes);
  if (result != 0) throw IoError("mincore failed");
  return static_cast<std::size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1U; }));
}

// A large file that the cache has forgotten; false where it cannot be made to.
bool make_cold(const std::filesystem::path& path, std::size_t bytes) {
  std::ofstream(path, std::ios::binary) << std::string(bytes, 'm');
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  const bool done =
      ::fsync(descriptor) == 0 && ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) == 0;
  ::close(descriptor);
  return done && cached_pages(path) == 0;
}

class PageCache : public testing::TestWithParam<bool> {};

// As a checkpoint is read: in ranges of any alignment, all of it, twice.
TEST_P(PageCache, DoesNotGrowByWhatIsRead) {
  constexpr std::size_t kBytes = std::size_t{24} << 20;
  support::ScratchFolder folder;
  const std::filesystem::path path = folder.path() / "model.safetensors";
  if (!make_cold(path, kBytes)) GTEST_SKIP() << "this file system's pages cannot be told to go";
  DiskOptions options;
  options.allow_direct = GetParam();
  const auto engine = DiskEngine::make(options);
  const FileId file = engine->open_read(path);
  if (GetParam() && engine->description().find("direct") == std::string::npos) {
    GTEST_SKIP() << "no direct reads here: " << engine->description();
  }
  std::vector<char> got(kBytes);
  IoGroup group;
  constexpr std::size_t kStep = 3'000'007;
  for (int turn = 0; turn < 2; ++turn) {
    for (std::size_t at = 0; at < kBytes; at += kStep) {
      engine->read(file, at, std::min(kStep, kBytes - at), &got[at], group);
    }
    group.wait();
  }
  EXPECT_EQ(std::count(got.begin(), got.end(), 'm'), static_cast<std::ptrdiff_t>(kBytes));
  // Through the cache, pages at the edges of requests and what was read ahead may stay.
  const std::size_t most = GetParam() ? 0 : kBytes / 4096 / 4;
  EXPECT_LE(cached_pages(path), most) << engine->description();
}

INSTANTIATE_TEST_SUITE_P(Ways, PageCache, testing::Values(true, false),
                         [](const auto& way) { return way.param ? "Direct" : "DroppingBehind"; });

}  // namespace
}  // namespace sluice::offload
