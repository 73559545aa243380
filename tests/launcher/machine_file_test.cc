#include "launcher/report/machine_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "kernels/device/error.h"
#include "launcher/report/machine_probe.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

constexpr std::int64_t kNow = 1'800'000'000;

class MachineFileTest : public testing::Test {
 protected:
  support::ScratchFolder folder_;
  std::filesystem::path path_ = folder_.path() / "cache" / "machine.json";
  MachineFile file_{path_};
};

TEST_F(MachineFileTest, WhatIsKeptIsFoundAgain) {
  EXPECT_FALSE(file_.engine("cpu", 2, 0));
  file_.keep_engine("cpu", 2, {1.5, 2.5, 3.5, 4.5, 0, 0}, kNow);
  file_.keep_engine("cpu", 4, {7, 7, 7, 7, 0, 0}, kNow);
  const std::optional<stage::MachineRates> rates = file_.engine("cpu", 2, kNow);
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->memory_read, 1.5);
  EXPECT_EQ(rates->flop, 2.5);
  EXPECT_EQ(rates->host_to_device, 3.5);
  EXPECT_EQ(rates->device_to_host, 4.5);
  EXPECT_FALSE(file_.engine("cpu", 3, 0));
  EXPECT_FALSE(file_.engine("cuda", 2, 0));
}

TEST_F(MachineFileTest, WhatIsTooOldIsNotThere) {
  file_.keep_engine("cpu", 2, {1, 1, 1, 1, 0, 0}, kNow);
  file_.keep_disk(folder_.path(), 5, kNow);
  EXPECT_FALSE(file_.engine("cpu", 2, kNow + 1));
  EXPECT_FALSE(file_.disk(folder_.path(), kNow + 1));
}

TEST_F(MachineFileTest, FilesOfOneDiskShareItsRate) {
  file_.keep_disk(folder_.path(), 2e9, kNow);
  EXPECT_EQ(file_.disk(path_, kNow), 2e9);
  EXPECT_FALSE(file_.disk("/proc/self", kNow)) << "another file system";
  EXPECT_FALSE(file_.disk("/no/such/path", kNow));
}

TEST_F(MachineFileTest, BrokenFilesAreAsIfTheyWereNotThere) {
  std::filesystem::create_directories(path_.parent_path());
  for (const char* text :
       {"", "{", "[]", "null", R"({"format": "sluice-machine", "format_version": 99})",
        R"({"format": "sluice-machine", "format_version": 1, "engines": 3})",
        R"({"format": "sluice-machine", "format_version": 1, "engines": {"cpu, 2 threads": 1}})",
        R"({"format": "sluice-machine", "format_version": 1,
            "engines": {"cpu, 2 threads": {"date": "now"}}})"}) {
    std::ofstream(path_) << text;
    EXPECT_FALSE(file_.engine("cpu", 2, 0)) << text;
  }
  std::ofstream(path_) << R"({"format": "sluice-machine", "format_version": 1,
      "engines": {"cpu, 2 threads": {"date": 5, "flop": "fast", "memory_read": -3}}})";
  const std::optional<stage::MachineRates> rates = file_.engine("cpu", 2, 0);
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->flop, 0);
  EXPECT_EQ(rates->memory_read, 0);
}

TEST_F(MachineFileTest, IsNamedByHostAndProcessor) {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before == nullptr ? "" : before;
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "/cache", 1), 0);
  EXPECT_EQ(machine_file_path("node-1", "Intel(R) Xeon(R) @ 2.50GHz/../x"),
            "/cache/sluice/machine-node-1-Intel-R-Xeon-R-2.50GHz-..-x.json");
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "relative", 1), 0);  // the specification: to be ignored
  EXPECT_EQ(machine_file_path("h", "p").filename(), "machine-h-p.json");
  EXPECT_NE(machine_file_path("h", "p").string().substr(0, 8), "relative");
  before == nullptr ? ::unsetenv("XDG_CACHE_HOME") : ::setenv("XDG_CACHE_HOME", kept.c_str(), 1);
  EXPECT_FALSE(processor_name().empty());
}

TEST_F(MachineFileTest, WithoutAPlaceNothingIsKept) {
  const MachineFile nowhere{std::filesystem::path()};
  nowhere.keep_disk(folder_.path(), 1, kNow);
  EXPECT_FALSE(nowhere.disk(folder_.path(), 0));
}

TEST(MachineProbe, MeasuresWhatThereIs) {
  EXPECT_GT(measure_memory_read(2), 1e8);
  const stage::MachineRates rates = measure_cpu(1);
  EXPECT_GT(rates.flop, 1e8);
  EXPECT_GT(rates.host_to_device, 1e7);
  EXPECT_GT(rates.device_to_host, 1e7);
  EXPECT_EQ(probe_threads(3), 3);
  EXPECT_GT(probe_threads(0), 0);
}

TEST(MachineProbe, ADiskThatCannotBeMeasuredHasNoRate) {
  support::ScratchFolder folder;
  std::ofstream(folder.path() / "small") << "too small";
  EXPECT_EQ(measure_disk_read(folder.path() / "small"), 0);
  EXPECT_THROW(measure_disk_read(folder.path() / "missing"), IoError);
}

}  // namespace
}  // namespace sluice::launcher
