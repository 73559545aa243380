#include "launcher/report/resources.h"

#include <gtest/gtest.h>

namespace sluice::launcher {
namespace {

std::size_t at(Activity activity) { return static_cast<std::size_t>(activity); }

stage::StageReport disk_bound() {
  stage::StageReport report;
  report.measures_stalls = true;
  report.rates = {20e9, 100e9, 10e9, 10e9, 2e9, 0};
  stage::PhaseReport& phase = report.decode;
  phase.passes = 10;
  phase.wall_seconds = 10;
  phase.totals.seconds[at(Activity::disk_read)] = 9;
  phase.totals.bytes[at(Activity::disk_read)] = 16'200'000'000;
  phase.totals.exposed[at(Activity::disk_read)] = 4.5;
  phase.totals.seconds[at(Activity::compute)] = 5;
  phase.work.weight_bytes = 60'000'000'000;
  phase.work.kv_bytes = 20'000'000'000;
  phase.work.flop = 100e9;
  phase.totals.seconds[at(Activity::stall_weights)] = 4.8;
  return report;
}

TEST(Resources, AreShownBesideWhatTheMachineCanDo) {
  const stage::StageReport report = disk_bound();
  const std::vector<ResourceUse> uses = resource_uses(report, report.decode);
  ASSERT_EQ(uses.size(), 2U);
  EXPECT_STREQ(uses[0].name, "disk read");
  EXPECT_DOUBLE_EQ(uses[0].rate(), 1.8e9);
  EXPECT_DOUBLE_EQ(uses[0].of_measured(), 0.9);
  EXPECT_DOUBLE_EQ(uses[0].hidden, 0.5);
  EXPECT_STREQ(uses[1].name, "compute");
  EXPECT_EQ(uses[1].bytes, 80'000'000'000U);
  EXPECT_DOUBLE_EQ(uses[1].of_measured(), 0.8) << "4 s of reading, 1 s of multiplying, in 5 s";
  EXPECT_LT(uses[1].hidden, 0) << "computing is not hidden behind itself";
}

TEST(Resources, WhatProductsTakeCountsWhereItIsMore) {
  stage::StageReport report = disk_bound();
  report.decode.work.flop = 450e9;
  EXPECT_DOUBLE_EQ(resource_uses(report, report.decode)[1].of_measured(), 0.9);
}

TEST(Resources, WhatIsNotKnownIsNotInvented) {
  stage::StageReport report = disk_bound();
  report.rates = {};
  report.measures_stalls = false;
  for (const ResourceUse& use : resource_uses(report, report.decode)) {
    EXPECT_LT(use.of_measured(), 0) << use.name;
    EXPECT_LT(use.hidden, 0) << use.name;
  }
  EXPECT_TRUE(resource_uses({}, {}).empty());
  EXPECT_LT(bound_of({}).of_wall, 0);
}

TEST(Resources, TheBoundIsWhatWasBusyLongest) {
  stage::StageReport report = disk_bound();
  EXPECT_STREQ(bound_of(report.decode).name, "disk read");
  EXPECT_DOUBLE_EQ(bound_of(report.decode).of_wall, 0.9);
  report.decode.totals.seconds[at(Activity::compute)] = 9.5;
  EXPECT_STREQ(bound_of(report.decode).name, "compute");
}

TEST(Resources, AStageThatWaitsForOthersIsBoundByThem) {
  stage::StageReport report;
  report.decode.wall_seconds = 10;
  report.decode.totals.seconds[at(Activity::compute)] = 3;
  report.decode.totals.seconds[at(Activity::stall_pass)] = 5;
  report.decode.totals.seconds[at(Activity::stall_message)] = 1;
  EXPECT_STREQ(bound_of(report.decode).name, "other stages");
  EXPECT_DOUBLE_EQ(bound_of(report.decode).of_wall, 0.6);
}

TEST(Resources, AStageWhoseExecutorIsLateIsBoundByIt) {
  stage::StageReport report;
  report.decode.wall_seconds = 10;
  report.decode.totals.seconds[at(Activity::compute)] = 3;
  report.decode.totals.seconds[at(Activity::stall_other)] = 4;
  EXPECT_STREQ(bound_of(report.decode).name, "the executor");
}

TEST(Resources, TheSteadyStateIsDecodingWhereThereIsEnoughOfIt) {
  stage::StageReport report = disk_bound();
  EXPECT_EQ(&steady_phase(report), &report.decode);
  report.decode.passes = 3;
  EXPECT_EQ(&steady_phase(report), &report.run);
}

}  // namespace
}  // namespace sluice::launcher
