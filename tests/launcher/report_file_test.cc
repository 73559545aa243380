#include "launcher/report/report_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

class ReportFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "sluice_report_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static std::string content(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::ptrdiff_t files() const {
    return std::distance(std::filesystem::directory_iterator(folder_), {});
  }

  std::filesystem::path folder_;
};

TEST_F(ReportFile, IsReplacedWhole) {
  write_report_file(folder_ / "r.json", "first");
  write_report_file(folder_ / "r.json", "2");
  EXPECT_EQ(content(folder_ / "r.json"), "2");
  EXPECT_EQ(files(), 1);
}

TEST_F(ReportFile, AFullDiskIsSaidToBeOne) {
  try {
    write_report_file("/dev/full", "text");
    FAIL();
  } catch (const CapacityError& error) {
    EXPECT_STREQ(error.what(),
                 "/dev/full: cannot be written: write: ENOSPC; make room on that disk");
  }
}

TEST_F(ReportFile, AFailureInTheMiddleKeepsTheOldFileAndLeavesNoOther) {
  write_report_file(folder_ / "r.json", "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1000, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(write_report_file(folder_ / "r.json", std::string(5000, 'x')), IoError);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(content(folder_ / "r.json"), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(ReportFile, AFailureLeavesNothing) {
  std::filesystem::create_directory(folder_ / "taken.json");
  std::ofstream(folder_ / "taken.json" / "file") << "x";
  EXPECT_THROW(write_report_file(folder_ / "taken.json", "text"), IoError);
  EXPECT_THROW(write_report_file(folder_ / "none" / "r.json", "text"), IoError);
  EXPECT_EQ(files(), 1);
}

TEST_F(ReportFile, IsAskedForBeforeTheRun) {
  EXPECT_NO_THROW(check_writable(folder_ / "r.json", "--report"));
  EXPECT_NO_THROW(check_writable("r.json", "--report"));
  EXPECT_NO_THROW(check_writable("/dev/null", "--report"));
  EXPECT_EQ(files(), 0);
  try {
    check_writable(folder_ / "none" / "r.json", "--report");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.what(), "--report " + (folder_ / "none" / "r.json").string() +
                                ": there is no folder '" + (folder_ / "none").string() +
                                "'; make it first");
  }
  EXPECT_THROW(check_writable(folder_, "--trace"), ConfigError);
}

}  // namespace
}  // namespace sluice::launcher
