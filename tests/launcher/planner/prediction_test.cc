#include "launcher/planner/prediction.h"

#include <gtest/gtest.h>

#include <string>

#include "kernels/device/error.h"
#include "launcher/planner/prediction_text.h"
#include "tests/launcher/planner/paper_cases.h"

namespace sluice::launcher {
namespace {

using paper::alike;
using paper::Case;
using paper::usual_machine;

TEST(Prediction, RowsThatNobodyLookedAtAreLikeTheOthers) {
  JobScan scan;
  scan.rows = 5;
  scan.looked_at = {{3, 4}, {5, 6}};
  const auto requests = requests_of(scan, 100);
  ASSERT_EQ(requests.size(), 5);
  EXPECT_EQ(requests[1].prompt_tokens, 5);
  EXPECT_EQ(requests[4].prompt_tokens, 3);
  EXPECT_EQ(requests[4].new_tokens, 4);
  EXPECT_EQ(requests_of(scan, 2).size(), 2);
  scan.looked_at.clear();
  EXPECT_TRUE(requests_of(scan, 100).empty());
}

TEST(Prediction, RowsOfSeveralAnswersAreSeveralSequences) {
  JobScan scan;
  scan.rows = 5;
  scan.rows_looked_at = 2;
  scan.looked_at = {{30, 4, 0}, {30, 4, 30}, {30, 4, 30}, {40, 6, 20}};
  const auto requests = requests_of(scan, 100);
  ASSERT_EQ(requests.size(), 10);
  EXPECT_EQ(requests[7].shared_tokens, 20);
}

TEST(Prediction, BeginningsThatRequestsShareAreComputedOnce) {
  Case one;
  const Machine machine = usual_machine();
  one.requests = alike(8, 80, 4);
  const SimulatedRun apart = one.run(machine);
  EXPECT_EQ(apart.run.shared_prefix_tokens, 0U);
  for (std::size_t i = 1; i < one.requests.size(); ++i) one.requests[i].shared_tokens = 64;
  const SimulatedRun sharing = one.run(machine);
  EXPECT_EQ(sharing.run.shared_prefix_tokens, 7U * 64U);
  EXPECT_EQ(sharing.run.prompt_tokens, apart.run.prompt_tokens);
  EXPECT_LT(sharing.run.prefill_seconds, apart.run.prefill_seconds);
  one.config.batching.share_prefixes = false;
  EXPECT_EQ(one.run(machine).run.shared_prefix_tokens, 0U);
}

TEST(Prediction, SaysWhatItLeavesOut) {
  RunConfig config;
  EXPECT_EQ(prediction_line({}, config).find("not counted"), std::string::npos);
  config.batching.draft_tokens = 4;
  config.lora = {"a=b"};
  EXPECT_TRUE(prediction_line({}, config)
                  .ends_with("; not counted: guesses (draft), the adapters' products (lora)"));
}

TEST(Prediction, OfAShortJobIsItsSimulation) {
  const Case one;
  const Machine machine = usual_machine();
  const SimulatedRun run = one.run(machine);
  const PredictedRun predicted = predict(one.job(machine), 4, machine);
  EXPECT_TRUE(predicted.is_whole);
  EXPECT_EQ(predicted.prediction.total_seconds, run.run.wall_seconds);
  EXPECT_EQ(predicted.prediction.decode_seconds, run.run.decode_seconds);
  EXPECT_NEAR(predicted.prediction.error(1.1 * run.run.wall_seconds), 0.1, 1e-9);
}

TEST(Prediction, OfALongJobGoesOnAsItBegan) {
  Case one;
  one.requests = alike(3000, 20, 30);
  for (std::size_t i = 0; i < one.requests.size(); ++i) {
    one.requests[i].new_tokens += static_cast<std::int32_t>(i * 7 % 23);  // ragged: no steady state
  }
  const Machine machine = usual_machine();
  const SimulatedRun all = one.run(machine);
  const double whole = all.run.wall_seconds;
  const PredictedRun predicted =
      predict(one.job(machine), static_cast<std::int64_t>(one.requests.size()), machine);
  EXPECT_FALSE(predicted.is_whole);
  // Its report is the whole job's.
  const SimulatedRun& run = predicted.simulated;
  EXPECT_EQ(run.run.requests, all.run.requests);
  EXPECT_EQ(run.run.prompt_tokens, all.run.prompt_tokens);
  const auto answers = static_cast<double>(all.run.completion_tokens);
  EXPECT_NEAR(static_cast<double>(run.run.completion_tokens), answers, 0.01 * answers);
  EXPECT_EQ(run.run.wall_seconds, predicted.prediction.total_seconds);
  const auto compute = [](const SimulatedRun& of) {
    return of.stages[0].run.totals.seconds[static_cast<std::size_t>(Activity::compute)];
  };
  EXPECT_NEAR(compute(run), compute(all), 0.02 * whole);
  EXPECT_NEAR(run.stages[0].decode.wall_seconds, all.stages[0].decode.wall_seconds, 0.02 * whole);
  EXPECT_LT(predicted.rows_simulated, 2000);
  EXPECT_NEAR(predicted.prediction.total_seconds, whole, 0.02 * whole);
  // Rows beyond those that are given count, too.
  EXPECT_NEAR(predict(one.job(machine), 6000, machine).prediction.total_seconds, 2 * whole,
              0.04 * whole);
}

TEST(Prediction, OfFewerRowsThanWereLookedAtIsThatOfTheFirst) {
  Case one;
  one.requests = alike(10, 20, 30);
  const Machine machine = usual_machine();
  Case few;
  few.requests = alike(3, 20, 30);
  const PredictedRun predicted = predict(one.job(machine), 3, machine);
  EXPECT_TRUE(predicted.is_whole);
  EXPECT_EQ(predicted.simulated.run.requests, 3);
  EXPECT_EQ(predicted.prediction.total_seconds, few.run(machine).run.wall_seconds);
}

TEST(Prediction, OfManyRowsLikeASingleOneIsAMultiple) {
  Case one;
  one.requests = alike(1, 20, 30);
  const Machine machine = usual_machine();
  const double single = one.run(machine).run.wall_seconds;
  const PredictedRun predicted = predict(one.job(machine), 5, machine);
  EXPECT_FALSE(predicted.is_whole);
  EXPECT_NEAR(predicted.prediction.total_seconds, 5 * single, 1e-9);
}

TEST(Prediction, IsGivenUpAfterTooManyEvents) {
  const Case one;
  const Machine machine = usual_machine();
  SimulationOptions options;
  options.most_events = 20;
  EXPECT_THROW(predict(one.job(machine), 4, machine, options), Error);
  options.most_events = 1'000'000;
  EXPECT_EQ(predict(one.job(machine), 4, machine, options).prediction.total_seconds,
            one.run(machine).run.wall_seconds);
}

TEST(Prediction, OfAJobThatIsTooLargeTakesAllRowsAsAlike) {
  Case one;
  for (std::int32_t i = 0; i < 4; ++i) one.requests[static_cast<std::size_t>(i)] = {10 + i, 20 - i};
  const Machine machine = usual_machine();
  const PredictedRun whole = predict_patiently(one.job(machine), 4, machine);
  EXPECT_FALSE(whole.is_alike);
  EXPECT_EQ(whole.prediction.total_seconds, one.run(machine).run.wall_seconds);
  Case mean;
  mean.requests = alike(4, 12, 19);  // of 11.5 and 18.5
  const PredictedRun rough = predict_patiently(one.job(machine), 4, machine, 20);
  EXPECT_TRUE(rough.is_alike);
  EXPECT_EQ(rough.simulated.run.prompt_tokens, 4 * 12);
  EXPECT_EQ(rough.prediction.total_seconds,
            predict(mean.job(machine), 4, machine).prediction.total_seconds);
}

TEST(Prediction, NeedsRatesOfProductsAndLinks) {
  EXPECT_TRUE(predicts(usual_machine()));
  Machine machine = usual_machine();
  machine.device.products.clear();
  EXPECT_FALSE(predicts(machine));
}

}  // namespace
}  // namespace sluice::launcher
