#include "launcher/generate/machine_rates.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <thread>
#include <vector>

#include "kernels/engine.h"
#include "launcher/planner/machine_file.h"
#include "launcher/planner/probe_cache.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

/// Two ranks of one host, with a cache folder of their own.
class MachineRatesTest : public testing::Test {
 protected:
  MachineRatesTest() {
    const char* before = std::getenv("XDG_CACHE_HOME");
    if (before != nullptr) before_ = before;
    had_ = before != nullptr;
    ::setenv("XDG_CACHE_HOME", folder_.path().c_str(), 1);
    config_.report.quiet = true;
    stage_.device = "cpu";
    stage_.threads = 1;
  }
  ~MachineRatesTest() override {
    had_ ? ::setenv("XDG_CACHE_HOME", before_.c_str(), 1) : ::unsetenv("XDG_CACHE_HOME");
  }

  ProbeCache cache() const { return {worlds_[0]->hosts()[0].name, processor_name()}; }
  void keep(const stage::MachineRates& rates, std::int64_t time) const {
    cache().keep_engine(2, rates, date_of(time));
  }

  std::vector<stage::MachineRates> find(bool seen, const std::filesystem::path& disk = {}) {
    std::vector<stage::MachineRates> rates(worlds_.size());
    std::vector<std::thread> ranks;
    for (std::size_t rank = 0; rank < worlds_.size(); ++rank) {
      ranks.emplace_back([&, rank] {
        // Only the head's word counts.
        kernels::EngineOptions options;
        options.device = "cpu";
        options.threads = 1;
        kernels::Engine engine = kernels::make_engine(options);
        rates[rank] =
            rates_for_run(*worlds_[rank], config_, stage_, disk, seen && rank == 0, engine);
      });
    }
    for (std::thread& rank : ranks) rank.join();
    return rates;
  }

  static std::int64_t now() { return static_cast<std::int64_t>(std::time(nullptr)); }

  support::ScratchFolder folder_;
  RunConfig config_;
  stage::StageConfig stage_;
  std::vector<std::unique_ptr<comm::World>> worlds_ = comm::make_local_worlds(2);

 private:
  std::string before_;
  bool had_ = false;
};

TEST_F(MachineRatesTest, RanksShareTheirHostsThreadsAndHaveItsLinksWhole) {
  keep({20e9, 200e9, 8e9, 7e9, 0, 0}, now());
  for (const stage::MachineRates& rates : find(false)) {
    EXPECT_DOUBLE_EQ(rates.memory_read, 10e9);
    EXPECT_DOUBLE_EQ(rates.flop, 100e9);
    EXPECT_DOUBLE_EQ(rates.host_to_device, 8e9);
    EXPECT_DOUBLE_EQ(rates.device_to_host, 7e9);
    EXPECT_EQ(rates.disk_read, 0);
  }
}

TEST_F(MachineRatesTest, ALimitedLinkIsAsFastAsItsLimit) {
  keep({20e9, 200e9, 8e9, 7e9, 0, 0}, now());
  stage_.limits = {2, 100, 0.5, 0};
  const stage::MachineRates rates = find(false)[1];
  EXPECT_DOUBLE_EQ(rates.host_to_device, 2e9);
  EXPECT_DOUBLE_EQ(rates.device_to_host, 7e9) << "the limit is beyond it";
  EXPECT_DOUBLE_EQ(rates.disk_read, 0.5e9) << "not measured, but no faster than that";
}

TEST_F(MachineRatesTest, NothingIsMeasuredForNobody) {
  EXPECT_EQ(find(false)[0].memory_read, 0);
  config_.report.probe = ProbeMode::never;
  EXPECT_EQ(find(true)[0].memory_read, 0);
  EXPECT_FALSE(std::filesystem::exists(cache().engine_file(2)));
}

TEST_F(MachineRatesTest, WhatIsOldOrAskedForIsMeasuredAgainAndKept) {
  const stage::MachineRates impossible = {9e14, 9e14, 9e14, 9e14, 0, 0};
  keep(impossible, now() - 31LL * 24 * 3600);
  const stage::MachineRates first = find(true)[1];
  EXPECT_GT(first.memory_read, 0);
  EXPECT_LT(first.memory_read, 1e14);
  EXPECT_NEAR(find(false)[0].memory_read / first.memory_read, 1, 1e-5) << "kept";
  keep(impossible, now());
  EXPECT_DOUBLE_EQ(find(true)[0].memory_read, 4.5e14) << "young enough";
  config_.report.probe = ProbeMode::again;
  EXPECT_LT(find(false)[0].memory_read, 1e14);
}

TEST_F(MachineRatesTest, ADiskThatCannotBeReadCostsOnlyItsFigure) {
  const stage::MachineRates rates = find(true, folder_.path() / "missing")[0];
  EXPECT_GT(rates.flop, 0);
  EXPECT_EQ(rates.disk_read, 0);
}

TEST_F(MachineRatesTest, TheDiskIsThatOfTheLargestWeightFile) {
  std::ofstream(folder_.path() / "config.json") << "{}";
  std::ofstream(folder_.path() / "model.safetensors") << std::string(1000, 'w');
  EXPECT_TRUE(disk_to_measure(config_, stage_, folder_.path()).empty()) << "nothing is on disk";
  stage_.policy.weights = {50, 0, 50};
  EXPECT_EQ(disk_to_measure(config_, stage_, folder_.path()).filename(), "model.safetensors");
  config_.weights = WeightsFrom::dummy;
  EXPECT_TRUE(disk_to_measure(config_, stage_, folder_.path()).empty());
}

}  // namespace
}  // namespace sluice::launcher
