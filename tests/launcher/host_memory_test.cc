#include "launcher/machine/host_memory.h"

#include <gmock/gmock.h>

#include <thread>

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

RankMemory rank(const char* host, std::uint64_t wanted, std::uint64_t available,
                std::vector<GroupLimit> limits = {}) {
  return {host, wanted, true, available, std::move(limits)};
}

TEST(HostMemory, UnequalRanksMayShareAHostThatHoldsThemTogether) {
  EXPECT_EQ(problem_of({rank("a", 7 * kGiB, 10 * kGiB), rank("a", 3 * kGiB, 10 * kGiB)}), "(none)");
}

TEST(HostMemory, RanksThatFitAloneButNotTogetherAreRefusedByName) {
  EXPECT_EQ(problem_of({rank("a", 9 * kGiB, 10 * kGiB), rank("b", 7 * kGiB, 10 * kGiB),
                        rank("b", 4 * kGiB, 11 * kGiB)}),
            "host b: ranks 1 and 2 plan 11.0 GiB of its memory (tiers device and host: rank 1 7.0 "
            "GiB, rank 2 4.0 GiB), but only 10.0 GiB are available there; set budget.device and "
            "budget.host to fit, move shares to disk (policy.weights, policy.cache), lower "
            "batching.gpu_batch_size, or start fewer ranks there");
}

TEST(HostMemory, ALoneRankIsToldOfItsTiers) {
  EXPECT_EQ(problem_of({{"a", 3 * kGiB, false, 2 * kGiB, {}}}),
            "host a: rank 0 plans 3.0 GiB of its memory (tier host), but only 2.0 GiB are "
            "available there; set budget.host to fit, move shares to disk (policy.weights, "
            "policy.cache), lower batching.gpu_batch_size");
}

TEST(HostMemory, AGroupMustHoldTheRanksInIt) {
  const auto job = [](double room) { return GroupLimit{"/slurm/job_7", 1, room * kGiB}; };
  EXPECT_EQ(problem_of({rank("a", 2 * kGiB, 99 * kGiB, {job(4)}),
                        rank("a", 2 * kGiB, 99 * kGiB, {job(4)})}),
            "(none)");
  const std::string problem = problem_of(
      {rank("a", 2 * kGiB, 99 * kGiB, {job(3.5)}), rank("a", 2 * kGiB, 99 * kGiB, {job(3)})});
  EXPECT_THAT(problem, testing::HasSubstr("ranks 0 and 1 plan 4.0 GiB"));
  EXPECT_THAT(problem,
              testing::HasSubstr("only 3.0 GiB are left by the memory limit of their control group "
                                 "/slurm/job_7; ask the batch system for more (Slurm: --mem)"));
}

TEST(HostMemory, RanksInGroupsOfTheirOwnAreNotAddedUp) {
  const auto task = [](std::uint64_t id) { return GroupLimit{"/task", id, 2.0 * kGiB}; };
  EXPECT_EQ(problem_of({rank("a", 2 * kGiB, 99 * kGiB, {task(1)}),
                        rank("a", 2 * kGiB, 99 * kGiB, {task(2)})}),
            "(none)");
  EXPECT_THAT(problem_of({rank("a", 2 * kGiB, 99 * kGiB, {task(1)}),
                          rank("a", 2 * kGiB + 1, 99 * kGiB, {task(2)})}),
              testing::HasSubstr("rank 1 plans 2.0 GiB (2147483649 bytes)"));
}

TEST(HostMemory, TheTightestLimitIsNamed) {
  const std::vector<GroupLimit> limits = {{"/step", 2, 3.0 * kGiB}, {"/job", 1, 2.0 * kGiB}};
  EXPECT_THAT(problem_of({rank("a", 4 * kGiB, 3 * kGiB, limits)}), testing::HasSubstr("/job;"));
}

TEST(HostMemory, PlansThatWrapAroundAreStillTooLarge) {
  EXPECT_NE(problem_of({rank("a", UINT64_MAX, kGiB), rank("a", 2, kGiB)}), "(none)");
}

TEST(HostMemory, WhatAHostHasNeedNotBeKnown) {
  EXPECT_EQ(problem_of({rank("a", 9 * kGiB, 0), rank("a", 9 * kGiB, 0)}), "(none)");
  EXPECT_NE(problem_of({rank("a", 9 * kGiB, 0), rank("a", 9 * kGiB, kGiB)}), "(none)");
}

TEST(HostMemory, OfThisMachineIsKnown) { EXPECT_GT(available_memory(), 0U); }

TEST(HostMemory, ReachesEveryRankOfAWorld) {
  const auto worlds = comm::make_local_worlds(2);
  std::vector<std::string> problems(2);
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < worlds.size(); ++rank) {
      threads.emplace_back([&, rank] {
        try {
          check_hosts(*worlds[rank], rank == 1 ? std::uint64_t{1} << 60 : 1, false);
        } catch (const CapacityError& error) {
          problems[rank] = error.what();
        }
      });
    }
  }
  EXPECT_THAT(problems[0], testing::HasSubstr("rank 1 1.0 EiB"));
  EXPECT_EQ(problems[0], problems[1]);
}

}  // namespace
}  // namespace sluice::launcher
