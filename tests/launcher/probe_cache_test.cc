#include "launcher/planner/probe_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "kernels/device/error.h"
#include "launcher/calibrate/short_probe.h"
#include "launcher/planner/machine_file.h"
#include "tests/support/file_bytes.h"
#include "tests/support/machines.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

constexpr const char* kDay = "2026-11-30";
constexpr const char* kNextDay = "2026-12-01";

class ProbeCacheTest : public testing::Test {
 protected:
  ProbeCacheTest() {
    const char* before = std::getenv("XDG_CACHE_HOME");
    had_ = before != nullptr;
    if (had_) before_ = before;
    ::setenv("XDG_CACHE_HOME", (folder_.path() / "cache").c_str(), 1);
  }
  ~ProbeCacheTest() override {
    had_ ? ::setenv("XDG_CACHE_HOME", before_.c_str(), 1) : ::unsetenv("XDG_CACHE_HOME");
  }

  support::ScratchFolder folder_;
  ProbeCache cache_{"node-1", "Some CPU"};

 private:
  std::string before_;
  bool had_ = false;
};

TEST_F(ProbeCacheTest, WhatIsKeptIsFoundAgain) {
  EXPECT_FALSE(cache_.engine(2, kDay));
  cache_.keep_engine(2, {1.5e9, 2.5e9, 3.5e9, 4.5e9, 0, 0}, kDay);
  cache_.keep_engine(4, {7e9, 7e9, 7e9, 7e9, 0, 0}, kDay);
  const std::optional<stage::MachineRates> rates = cache_.engine(2, kDay);
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->memory_read, 1.5e9);
  EXPECT_EQ(rates->flop, 2.5e9);
  EXPECT_EQ(rates->host_to_device, 3.5e9);
  EXPECT_EQ(rates->device_to_host, 4.5e9);
  EXPECT_FALSE(cache_.engine(3, kDay));
  EXPECT_FALSE(ProbeCache("node-2", "Some CPU").engine(2, kDay));
}

TEST_F(ProbeCacheTest, WhatIsTooOldIsNotThere) {
  cache_.keep_engine(2, {1e9, 1e9, 1e9, 1e9, 0, 0}, kDay);
  cache_.keep_disk(folder_.path(), 5e8, kDay);
  EXPECT_FALSE(cache_.engine(2, kNextDay));
  EXPECT_FALSE(cache_.disk(folder_.path(), kNextDay));
}

TEST_F(ProbeCacheTest, FilesOfOneDiskShareItsRate) {
  cache_.keep_disk(folder_.path(), 2e9, kDay);
  std::ofstream(folder_.path() / "file") << "x";
  EXPECT_EQ(cache_.disk(folder_.path() / "file", kDay), 2e9);
  EXPECT_FALSE(cache_.disk("/proc/self", kDay)) << "another file system";
  EXPECT_FALSE(cache_.disk("/no/such/path", kDay));
}

TEST_F(ProbeCacheTest, BrokenFilesAreAsIfTheyWereNotThere) {
  const std::filesystem::path file = cache_.engine_file(2);
  std::filesystem::create_directories(file.parent_path());
  for (const char* text :
       {"", "{", "[]", "null", "format: sluice-machine-99\n", "format: sluice-machine-1\nhost: 3",
        "format: sluice-machine-1\ncontents: probe\ndate: now\n"}) {
    std::ofstream(file) << text;
    EXPECT_FALSE(cache_.engine(2, kDay)) << text;
  }
}

TEST_F(ProbeCacheTest, WhatCalibrateMeasuredCountsMore) {
  Machine machine = support::paper_machine();
  machine.device.kind = "cpu";
  machine.device.threads = 2;
  machine.disk.folder = folder_.path().string();
  write_machine_file(machine_file_path("node-1", "Some CPU"), machine);
  cache_.keep_engine(2, {1e9, 1e9, 1e9, 1e9, 0, 0}, kNextDay);
  const std::optional<stage::MachineRates> rates = cache_.engine(2, kNextDay);
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->memory_read, machine.host.memory_read.value);
  EXPECT_EQ(rates->flop, machine.device.products[DType::f16].points.back().rate.value);
  EXPECT_EQ(cache_.disk(folder_.path(), kDay), machine.disk.read.points.back().rate.value);
  EXPECT_FALSE(cache_.engine(4, kDay)) << "other threads";
}

TEST_F(ProbeCacheTest, AProbesFileIsNoMachine) {
  cache_.keep_engine(2, {1e9, 1e9, 1e9, 1e9, 0, 0}, kDay);
  const std::string refusal =
      support::config_refusal([&] { read_machine_file(cache_.engine_file(2)); });
  EXPECT_NE(refusal.find("key 'contents': the file has only what a run's short probe found"),
            std::string::npos)
      << refusal;
}

TEST_F(ProbeCacheTest, WithoutAPlaceNothingIsKept) {
  const char* home = std::getenv("HOME");
  const std::string kept = home == nullptr ? "" : home;
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HOME");
  cache_.keep_disk(folder_.path(), 1e9, kDay);
  EXPECT_FALSE(cache_.disk(folder_.path(), kDay));
  if (home != nullptr) ::setenv("HOME", kept.c_str(), 1);
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
