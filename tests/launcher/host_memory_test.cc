#include "launcher/generate/host_memory.h"

#include <gmock/gmock.h>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

std::string problem_of(const std::vector<RankMemory>& ranks) {
  try {
    check_hosts(ranks);
  } catch (const CapacityError& error) {
    return error.what();
  }
  return "(none)";
}

TEST(HostMemory, UnequalRanksMayShareAHostThatHoldsThemTogether) {
  EXPECT_EQ(problem_of({{"a", 7 * kGiB, 10 * kGiB}, {"a", 3 * kGiB, 10 * kGiB}}), "(none)");
}

TEST(HostMemory, RanksThatFitAloneButNotTogetherAreRefusedByName) {
  EXPECT_EQ(
      problem_of(
          {{"a", 9 * kGiB, 10 * kGiB}, {"b", 7 * kGiB, 10 * kGiB}, {"b", 4 * kGiB, 11 * kGiB}}),
      "host b: its ranks plan 11.0 GiB of its memory together (rank 1 7.0 GiB, rank 2 4.0 "
      "GiB), but only 10.0 GiB are available; move shares to disk (policy.weights, "
      "policy.cache), lower batching.gpu_batch_size, or start fewer ranks there");
}

TEST(HostMemory, PlansThatWrapAroundAreStillTooLarge) {
  EXPECT_NE(problem_of({{"a", UINT64_MAX, kGiB}, {"a", 2, kGiB}}), "(none)");
}

TEST(HostMemory, WhatAHostHasNeedNotBeKnown) {
  EXPECT_EQ(problem_of({{"a", 9 * kGiB, 0}, {"a", 9 * kGiB, 0}}), "(none)");
  EXPECT_NE(problem_of({{"a", 9 * kGiB, 0}, {"a", 9 * kGiB, kGiB}}), "(none)");
}

}  // namespace
}  // namespace sluice::launcher
