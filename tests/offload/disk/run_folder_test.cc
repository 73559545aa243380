#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/device/error.h"
#include "offload/disk/disk_engine.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

void touch(const fs::path& path) { std::ofstream(path) << "bytes"; }

class RunFolderTest : public testing::Test {
 protected:
  fs::path parent() const { return scratch_.path() / "offload"; }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(parent()), fs::directory_iterator()));
  }
  // A folder as a run that was killed leaves it; the name it had is returned.
  fs::path leave_behind(int rank) const {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const RunFolder folder(parent(), rank);
      touch(folder.path() / "cache");
      const std::string name = folder.path();
      if (::write(ends[1], name.data(), name.size()) < 0) ::_exit(1);
      ::raise(SIGKILL);
    }
    ::close(ends[1]);
    char name[4096] = {};
    EXPECT_GT(::read(ends[0], name, sizeof(name) - 1), 0);
    ::close(ends[0]);
    EXPECT_EQ(::waitpid(child, nullptr, 0), child);
    return name;
  }

  support::ScratchFolder scratch_;
};

TEST_F(RunFolderTest, IsPrivateNamedAndGoneAfterwards) {
  fs::path path;
  {
    const RunFolder folder(parent(), 3);
    path = folder.path();
    EXPECT_THAT(path.filename().string(), StartsWith("sluice-"));
    EXPECT_THAT(path.filename().string(), EndsWith("-" + std::to_string(::getpid()) + "-3"));
    struct stat status;
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
    ASSERT_EQ(::stat(parent().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
    touch(path / "cache");
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_EQ(entries(), 0U);
}

TEST_F(RunFolderTest, LiveRunsLeaveEachOtherAlone) {
  const RunFolder first(parent(), 0);
  touch(first.path() / "cache");
  {
    const RunFolder second(parent(), 1);
    EXPECT_NE(first.path(), second.path());
    EXPECT_TRUE(fs::exists(first.path() / "cache"));
    EXPECT_EQ(entries(), 2U);
  }
  EXPECT_TRUE(fs::exists(first.path() / "cache"));
}

TEST_F(RunFolderTest, TheFolderOfAKilledRunIsRemovedByTheNext) {
  const fs::path dead = leave_behind(0);
  ASSERT_TRUE(fs::exists(dead / "cache"));
  const RunFolder next(parent(), 0);
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(next.path()));
}

TEST_F(RunFolderTest, ForeignFilesAndLinksAreNeverTouched) {
  fs::create_directory(parent());
  const fs::path outside = scratch_.path() / "outside";
  fs::create_directory(outside);
  touch(outside / "lock");
  touch(outside / "precious");
  const std::vector<std::string> names = {
      "notes",        "sluice-host-1",  "sluice-host-x-0",  "sluice--1-0",
      "sluice-h-1-y", "sluice-host-1-", "sluice-host--1-0", "xsluice-host-1-0"};
  for (const std::string& name : names) {
    fs::create_directory(parent() / name);
    touch(parent() / name / "lock");
    touch(parent() / name / "precious");
  }
  touch(parent() / "sluice-host-1-7");                                  // a file of our form
  fs::create_directory_symlink(outside, parent() / "sluice-host-1-8");  // a link of our form
  fs::create_directory(parent() / "sluice-host-1-9");                   // without a lock
  touch(parent() / "sluice-host-1-9" / "precious");
  { const RunFolder folder(parent(), 0); }
  // "sluice-host--1-0" is a host named "host-": its lock was free, so it was a dead run's.
  for (const std::string& name : names) {
    EXPECT_EQ(fs::exists(parent() / name / "precious"), name != "sluice-host--1-0") << name;
  }
  EXPECT_TRUE(fs::exists(parent() / "sluice-host-1-7"));
  EXPECT_TRUE(fs::exists(outside / "precious"));
  EXPECT_TRUE(fs::exists(outside / "lock"));
  EXPECT_TRUE(fs::exists(parent() / "sluice-host-1-9" / "precious"));
}

TEST_F(RunFolderTest, LinksInsideADeadFolderAreRemovedNotFollowed) {
  const fs::path outside = scratch_.path() / "precious";
  touch(outside);
  const fs::path dead = leave_behind(0);
  fs::create_symlink(outside, dead / "link");
  fs::create_directory_symlink(scratch_.path(), dead / "folder");
  const RunFolder next(parent(), 0);
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(outside));
}

TEST_F(RunFolderTest, AHalfMadeFolderOfADeadProcessIsRemoved) {
  const fs::path dead = leave_behind(0);
  const fs::path unfinished = parent() / ("." + dead.filename().string());
  fs::rename(dead, unfinished);
  const RunFolder next(parent(), 0);
  EXPECT_FALSE(fs::exists(unfinished));
}

// Ranks that are threads of one process have one pid: none may take another's folder, half made,
// for that of an earlier process.
TEST_F(RunFolderTest, RanksOfOneProcessComeAndGoTogether) {
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> ranks;
    std::atomic<int> whole{0};
    for (int rank = 0; rank < 4; ++rank) {
      ranks.emplace_back([&, rank] {
        const RunFolder folder(parent(), rank);
        if (fs::exists(folder.path() / "lock")) ++whole;
      });
    }
    for (std::thread& rank : ranks) rank.join();
    ASSERT_EQ(whole, 4) << "round " << round;
  }
  EXPECT_EQ(entries(), 0U);
}

TEST_F(RunFolderTest, IsRemovedBeforeItsTimeWithFilesInUse) {
  {
    const RunFolder folder(parent(), 0);
    std::fstream cache(folder.path() / "cache", std::ios::in | std::ios::out | std::ios::trunc);
    touch(folder.path() / "activations");
    folder.remove();
    EXPECT_EQ(entries(), 0U);
    EXPECT_TRUE(cache << "written" << std::flush);  // by a thread that knows nothing yet
    std::ofstream late(folder.path() / "late");
    EXPECT_FALSE(late.is_open());
    folder.remove();  // has nothing left to do, nor has the destructor
  }
  EXPECT_EQ(entries(), 0U);
}

// A thread that makes files all the while may keep the folder, but not for longer than its process.
TEST_F(RunFolderTest, WhatARemovalLeavesTheNextRunRemoves) {
  const pid_t child = ::fork();
  if (child == 0) {
    const RunFolder folder(parent(), 0);
    fs::create_directory(folder.path() / "unexpected");
    folder.remove();
    ::_exit(fs::exists(folder.path()) ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(entries(), 1U);
  const fs::path left = fs::directory_iterator(parent())->path();
  fs::remove(left / "unexpected");
  touch(left / "late");
  const RunFolder next(parent(), 1);
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(RunFolderTest, TheSameRankTwiceIsRefused) {
  const RunFolder first(parent(), 0);
  EXPECT_THROW(RunFolder(parent(), 0), IoError);
  EXPECT_TRUE(fs::exists(first.path() / "lock"));
  EXPECT_EQ(entries(), 1U);
}

TEST_F(RunFolderTest, AParentThatCannotBeIsNamed) {
  touch(scratch_.path() / "file");
  for (const fs::path& bad : {scratch_.path() / "file", scratch_.path() / "no" / "such"}) {
    try {
      const RunFolder folder(bad, 0);
      FAIL() << "made a folder in " << bad;
    } catch (const IoError& failure) {
      EXPECT_THAT(failure.what(), HasSubstr(bad.string()));
    }
  }
}

}  // namespace
}  // namespace sluice::offload
