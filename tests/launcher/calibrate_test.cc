// sluice calibrate in small: every figure is measured and written; the figures are those of caches.
#include "launcher/calibrate/calibrate_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <thread>

#include "kernels/engine.h"
#include "launcher/calibrate/machine_table.h"
#include "launcher/calibrate/measure_machine.h"
#include "launcher/planner/machine_file.h"
#include "tests/support/calibration_sizes.h"
#include "tests/support/machines.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

class CalibrateTest : public testing::Test {
 protected:
  CalibrateTest() {
    arguments_.output = (folder_.path() / "deep.yaml").string();
    arguments_.device = "cpu";
    arguments_.threads = 1;
    arguments_.directory = folder_.path().string();
    arguments_.quiet = true;
  }

  std::string calibrate(int ranks) {
    const auto worlds = comm::make_local_worlds(ranks);
    std::ostringstream out;
    if (ranks == 1) {
      calibrate_in(*worlds.front(), arguments_, support::small_calibration(), out);
      return out.str();
    }
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        calibrate_in(*worlds[static_cast<std::size_t>(rank)], arguments_,
                     support::small_calibration(), out);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return out.str();
  }

  support::ScratchFolder folder_;
  CalibrateArguments arguments_;
};

TEST(CliCalibrate, HasDefaultsAndChecksItsNumbers) {
  const auto parse = [](std::vector<const char*> words) {
    words.insert(words.begin(), {"sluice", "calibrate"});
    return parse_command_line(static_cast<int>(words.size()), words.data());
  };
  const ParsedCommand parsed = parse({});
  EXPECT_EQ(parsed.command, Command::calibrate);
  EXPECT_EQ(parsed.calibrate.device, "auto");
  EXPECT_EQ(parsed.calibrate.threads, 0);
  EXPECT_EQ(parsed.calibrate.output, "");
  EXPECT_EQ(parsed.calibrate.directory, offload_directory({}).string());
  const ParsedCommand other = parse({"--output", "m.yaml", "--device", "cpu", "--threads", "3",
                                     "--directory", "/scratch", "--quiet"});
  EXPECT_EQ(other.calibrate.output, "m.yaml");
  EXPECT_EQ(other.calibrate.device, "cpu");
  EXPECT_EQ(other.calibrate.threads, 3);
  EXPECT_EQ(other.calibrate.directory, "/scratch");
  EXPECT_TRUE(other.calibrate.quiet);
  EXPECT_EQ(support::config_refusal([&] {
              parse({"--threads", "two"});
            }),
            "--threads: must be a whole number of at least 0, not 'two'");
  EXPECT_THAT(support::config_refusal([&] {
                parse({"--outptu", "m"});
              }),
              HasSubstr("did you mean '--output'?"));
}

TEST(FigureOf, IsTheMedianWithItsQuartiles) {
  const Figure figure = figure_of({5, 1, 4, 2, 3}, "2026-11-30", "x");
  EXPECT_EQ(figure.value, 3);
  EXPECT_DOUBLE_EQ(figure.spread, (4.0 - 2.0) / 2 / 3);
  EXPECT_EQ(figure.date, "2026-11-30");
  EXPECT_EQ(figure.how, "x");
  EXPECT_EQ(figure_of({7}, "", "").value, 7);
  EXPECT_EQ(figure_of({7}, "", "").spread, 0);
  EXPECT_EQ(figure_of({1, 1, 1, 1000, 1000}, "", "").spread, 1) << "never more than a file may say";
}

TEST_F(CalibrateTest, EveryFigureIsWritten) {
  const std::string table = calibrate(1);
  const Machine machine = read_machine_file(arguments_.output);  // refuses where one is missing
  EXPECT_EQ(machine.device.kind, "cpu");
  EXPECT_EQ(machine.device.threads, 1);
  EXPECT_FALSE(machine.on_paper);
  EXPECT_TRUE(machine.shares_link);
  EXPECT_EQ(machine.date.size(), 10U);
  EXPECT_EQ(machine.device.products.at(DType::q4).points.size(), 2U);
  EXPECT_EQ(machine.device.products.at(DType::q4).points[1].size, 8);
  EXPECT_EQ(machine.disk.folder, std::filesystem::absolute(folder_.path()));
  EXPECT_TRUE(machine.disk.product_share.known());
  EXPECT_FALSE(machine.within_host.latency.known()) << "a lone rank has nobody to send to";
  EXPECT_THAT(table, HasSubstr("products, q4, 8 rows"));
  EXPECT_THAT(table, HasSubstr("written to " + arguments_.output));
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_EQ(entry.path(), arguments_.output) << "the disk's file is gone";
  }
}

TEST_F(CalibrateTest, RanksMeasureTheirMessages) {
  calibrate(2);
  const Machine machine = read_machine_file(arguments_.output);
  EXPECT_TRUE(machine.within_host.latency.known());
  EXPECT_TRUE(machine.within_host.bandwidth.known());
  EXPECT_FALSE(machine.between_hosts.latency.known());
  EXPECT_EQ(machine.hosts, 1);
  // A lone rank keeps what it cannot measure.
  calibrate(1);
  EXPECT_EQ(read_machine_file(arguments_.output).within_host.latency.value,
            machine.within_host.latency.value);
}

TEST_F(CalibrateTest, ARestlessMachineIsTold) {
  Machine machine = support::paper_machine();
  EXPECT_EQ(restless_line(machine), "");
  for (auto& [dtype, curve] : machine.device.products) {
    for (RateCurve::Point& point : curve.points) point.rate.spread = 0.5;
  }
  EXPECT_THAT(restless_line(machine), HasSubstr("10 of 48 figures vary by more than 20 %"));
}

TEST_F(CalibrateTest, TheBarKnowsItsEnd) {
  kernels::EngineOptions options;
  options.device = "cpu";
  options.threads = 1;
  kernels::Engine engine = kernels::make_engine(options);
  std::uint64_t figures = 0;
  Sampler sampler(support::small_calibration(), "2026-11-30", [&] { ++figures; });
  measure_machine(engine, folder_.path(), sampler);
  EXPECT_EQ(figures, figures_to_measure(engine, support::small_calibration()));
}

TEST_F(CalibrateTest, WhereItCannotWriteIsSaidBeforeItMeasures) {
  arguments_.output = (folder_.path() / "none" / "m.yaml").string();
  EXPECT_THAT(support::config_refusal([&] { calibrate(1); }),
              HasSubstr("--output " + arguments_.output + ": there is no folder"));
  arguments_.output = (folder_.path() / "m.yaml").string();
  arguments_.directory = (folder_.path() / "none").string();
  EXPECT_THAT(support::config_refusal([&] { calibrate(1); }),
              HasSubstr("--directory " + arguments_.directory + ": there is no such folder"));
}

}  // namespace
}  // namespace sluice::launcher
