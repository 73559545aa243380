#include "launcher/planner/stage_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "launcher/planner/linear_program.h"
#include "plan_cases.h"

namespace sluice::launcher {
namespace {

using Seconds = std::vector<std::vector<double>>;  // by stage and layers

double slowest_of(const Seconds& seconds, const std::vector<std::int32_t>& split) {
  double slowest = 0;
  for (std::size_t s = 0; s < split.size(); ++s) {
    slowest = std::max(slowest, seconds[s][static_cast<std::size_t>(split[s])]);
  }
  return slowest;
}

/// By trying every split.
double best_of_all(const Seconds& seconds, std::int32_t layers) {
  double best = std::numeric_limits<double>::infinity();
  std::vector<std::int32_t> split;
  const std::function<void(std::int32_t)> go_on = [&](std::int32_t left) {
    if (split.size() + 1 == seconds.size()) {
      split.push_back(left);
      best = std::min(best, slowest_of(seconds, split));
      split.pop_back();
      return;
    }
    for (std::int32_t n = 1; n < left; ++n) {
      split.push_back(n);
      go_on(left - n);
      split.pop_back();
    }
  };
  go_on(layers);
  return best;
}

TEST(StageSplit, IsTheBestOfAll) {
  for (unsigned seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    paper::Chance chance(seed);
    const auto stages = static_cast<std::int32_t>(chance.number(1, 4));
    const auto layers = static_cast<std::int32_t>(chance.number(stages, 12));
    Seconds seconds(static_cast<std::size_t>(stages),
                    std::vector<double>(static_cast<std::size_t>(layers) + 1));
    for (auto& of_stage : seconds) {
      for (double& one : of_stage) one = chance.size(1, 100);  // also where more layers are faster
    }
    const auto split = split_by_seconds(stages, layers, [&](std::int32_t stage, std::int32_t n) {
      return seconds[static_cast<std::size_t>(stage)][static_cast<std::size_t>(n)];
    });
    ASSERT_TRUE(split);
    EXPECT_EQ(std::accumulate(split->begin(), split->end(), 0), layers);
    EXPECT_EQ(slowest_of(seconds, *split), best_of_all(seconds, layers));
  }
}

TEST(StageSplit, SaysWhereNoneIsPossible) {
  const auto never = [](std::int32_t, std::int32_t) {
    return std::numeric_limits<double>::infinity();
  };
  EXPECT_FALSE(split_by_seconds(2, 4, never));
  EXPECT_FALSE(split_by_seconds(3, 2, [](std::int32_t, std::int32_t) { return 1.0; }));
}

TEST(LinearProgram, FindsTheLeastSum) {
  LinearProgram program;
  const std::size_t x = program.add_variable(1, 3);
  const std::size_t y = program.add_variable(2);
  program.add_limit({{x, 1e9}, {y, 1e9}}, 5e9, kUnbounded);
  const auto values = program.solve();
  ASSERT_TRUE(values);
  EXPECT_NEAR((*values)[x], 3, 1e-9);
  EXPECT_NEAR((*values)[y], 2, 1e-9);
  program.add_limit({{y, 1}}, -kUnbounded, 1);
  EXPECT_FALSE(program.solve());
}

}  // namespace
}  // namespace sluice::launcher
