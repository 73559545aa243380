#include "launcher/launch/restart_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

constexpr int kKilled = 128 + 9;

TEST(RestartRule, WhatIsDoneOrStoppedIsPassedThrough) {
  for (const int status : {0, 6, 75}) {
    const auto verdict = RestartRule(10).judge(status, false);
    EXPECT_FALSE(verdict.again);
    EXPECT_EQ(verdict.status, status);
    EXPECT_EQ(verdict.reason, "");
  }
}

TEST(RestartRule, WhatNoRestartMendsEndsAtOnce) {
  for (const int status : {2, 3, 4}) {
    const auto verdict = RestartRule(10).judge(status, true);
    EXPECT_FALSE(verdict.again);
    EXPECT_EQ(verdict.status, status);
    EXPECT_THAT(verdict.reason, HasSubstr("no restart mends"));
  }
}

TEST(RestartRule, PausesGrowUpToAMinute) {
  RestartRule rule(100);
  for (const int seconds : {1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60}) {
    const auto verdict = rule.judge(kKilled, true);
    EXPECT_TRUE(verdict.again);
    EXPECT_EQ(verdict.pause.count(), seconds);
  }
}

TEST(RestartRule, AfterTheLastRestartTheStatusIsTheRuns) {
  for (const auto& [status, last] : {std::pair{5, 5}, {1, 1}, {kKilled, 5}, {128 + 11, 5}}) {
    RestartRule rule(2);
    EXPECT_TRUE(rule.judge(status, true).again);
    EXPECT_TRUE(rule.judge(status, true).again);
    const auto verdict = rule.judge(status, true);
    EXPECT_FALSE(verdict.again);
    EXPECT_EQ(verdict.status, last);
    EXPECT_THAT(verdict.reason, HasSubstr("2 restarts are allowed"));
    EXPECT_EQ(rule.restarts(), 2);
  }
}

TEST(RestartRule, NoRestartsMeansNone) { EXPECT_FALSE(RestartRule(0).judge(5, true).again); }

TEST(RestartRule, FiveRestartsThatBringNothingAreEnough) {
  RestartRule rule(100);
  for (int i = 0; i < kMostIdleRestarts; ++i) EXPECT_TRUE(rule.judge(128 + 11, false).again);
  EXPECT_TRUE(rule.judge(128 + 11, true).again);  // the fifth did, after all
  for (int i = 0; i < kMostIdleRestarts; ++i) EXPECT_TRUE(rule.judge(128 + 11, false).again);
  const auto verdict = rule.judge(128 + 11, false);
  EXPECT_FALSE(verdict.again);
  EXPECT_EQ(verdict.status, 5);
  EXPECT_THAT(verdict.reason, HasSubstr("brought nothing new"));
}

TEST(RestartRule, TheCauseIsNamed) {
  EXPECT_EQ(cause_of_end(5), "a rank was lost (status 5)");
  EXPECT_EQ(cause_of_end(kKilled), "a rank was ended by signal 9 (status 137)");
  EXPECT_EQ(cause_of_end(1), "the run failed (status 1)");
}

}  // namespace
}  // namespace sluice::launcher
