#include "launcher/planner/prediction.h"

#include <gtest/gtest.h>

#include "kernels/device/error.h"
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
  const double whole = one.run(machine).run.wall_seconds;
  const PredictedRun predicted =
      predict(one.job(machine), static_cast<std::int64_t>(one.requests.size()), machine);
  EXPECT_FALSE(predicted.is_whole);
  EXPECT_LT(predicted.simulated.run.requests, 2000);
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

TEST(Prediction, NeedsRatesOfProductsAndLinks) {
  EXPECT_TRUE(predicts(usual_machine()));
  Machine machine = usual_machine();
  machine.device.products.clear();
  EXPECT_FALSE(predicts(machine));
}

}  // namespace
}  // namespace sluice::launcher
