// What a report says of a run must add up: the compute lane's times are parts of the wall time, the
// bytes of the steady state those that the plan makes move, and nothing is hidden twice.
#include <gtest/gtest.h>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using support::policy_of;

std::size_t at(Activity activity) { return static_cast<std::size_t>(activity); }

constexpr std::int32_t kPrompt = 9;
constexpr std::int32_t kTokens = 7;

support::PipelineRun run_policy(const offload::Policy& policy, std::int32_t stages) {
  support::PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = 2;
  options.batching.micro_batches = 1;
  std::vector<stage::Request> requests(2);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (std::int32_t k = 0; k < kPrompt; ++k) {
      requests[i].prompt.push_back(static_cast<std::int32_t>(i) * 37 + k * 5 + 11);
    }
    requests[i].max_tokens = kTokens;
  }
  support::ListJob job(requests);
  const launcher::ModelFolder model =
      launcher::open_model(support::read_reference("opt-deep").folder.string());
  return support::run_pipeline(model, options, job);
}

void expect_parts_of(const stage::PhaseReport& phase, double slack_seconds) {
  double lane = phase.totals.seconds[at(Activity::compute)];
  for (std::size_t a = at(Activity::stall_weights); a < kActivityCount; ++a) {
    lane += phase.totals.seconds[a];
  }
  EXPECT_LE(lane, phase.wall_seconds + slack_seconds);
  EXPECT_GT(lane, 0);
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    EXPECT_GE(phase.totals.seconds[a], 0) << name_of(static_cast<Activity>(a));
    EXPECT_LE(phase.totals.exposed[a], phase.totals.seconds[a] + slack_seconds)
        << name_of(static_cast<Activity>(a));
  }
}

TEST(ReportTest, TheComputeLanesTimesArePartsOfTheWallTime) {
  std::vector<offload::Policy> policies = {
      policy_of(100, 0, 100, 0, 100, 0), policy_of(0, 100, 0, 100, 0, 100),
      policy_of(0, 0, 0, 0, 0, 0), policy_of(30, 40, 50, 20, 50, 50)};
  policies.push_back(policies.back());
  policies.back().overlap = false;
  for (const offload::Policy& policy : policies) {
    for (const std::int32_t stages : {1, 2}) {
      for (const stage::StageReport& stage : run_policy(policy, stages).stages) {
        EXPECT_TRUE(stage.measures_stalls);
        // What the lane began before the clock, and the clock's own reading.
        expect_parts_of(stage.run, 0.01);
        EXPECT_EQ(stage.run.passes, static_cast<std::uint64_t>(kTokens));
        EXPECT_EQ(stage.decode.passes, static_cast<std::uint64_t>(kTokens - 1));
        EXPECT_LT(stage.decode.wall_seconds, stage.run.wall_seconds);
      }
    }
  }
}

TEST(ReportTest, StreamedWeightsAreCountedOncePerPass) {
  offload::Policy policy = policy_of(0, 100, 100, 0, 100, 0);
  policy.overlap = false;
  const stage::StageReport stage = run_policy(policy, 1).stages[0];
  const stage::StageReport resident = run_policy(policy_of(100, 0, 100, 0, 100, 0), 1).stages[0];
  EXPECT_EQ(resident.run.totals.bytes[at(Activity::host_to_device)], 0U);
  EXPECT_EQ(resident.run.work.weight_bytes, stage.run.work.weight_bytes);
  EXPECT_DOUBLE_EQ(resident.run.work.flop, stage.run.work.flop);
  const std::uint64_t moved = stage.run.totals.bytes[at(Activity::host_to_device)] +
                              stage.load.bytes[at(Activity::host_to_device)];
  EXPECT_GE(moved, stage.decode.work.weight_bytes) << "decoding reads only what was brought";
}

}  // namespace
}  // namespace sluice
