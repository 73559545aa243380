#include "launcher/machine/core_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "comm/world.h"

namespace sluice::launcher {
namespace {

std::vector<int> shares(const std::vector<RankCores>& ranks) {
  std::vector<int> result;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    result.push_back(share_of_cores(ranks, rank));
  }
  return result;
}

/// Ranks of one host.
std::vector<int> shares_of_host(const std::vector<std::vector<int>>& ranks) {
  std::vector<RankCores> found;
  for (const std::vector<int>& cores : ranks) found.push_back({"a", cores, {}});
  return shares(found);
}

using Shares = std::vector<int>;

TEST(CoreShare, RanksBoundToTheirOwnCoresKeepThemAll) {
  EXPECT_EQ(shares_of_host({{0, 1, 2, 3}, {4, 5, 6, 7}}), (Shares{4, 4}));
  EXPECT_EQ(shares_of_host({{0}, {1, 2}, {3}}), (Shares{1, 2, 1}));
}

TEST(CoreShare, RanksThatWereNotBoundDivideTheHost) {
  EXPECT_EQ(shares_of_host({{0, 1, 2, 3}}), (Shares{4}));
  EXPECT_EQ(shares_of_host({{0, 1, 2, 3}, {0, 1, 2, 3}}), (Shares{2, 2}));
  EXPECT_EQ(shares_of_host({{0, 1, 2}, {0, 1, 2}, {0, 1, 2}}), (Shares{1, 1, 1}));
}

TEST(CoreShare, RanksOfTwoSocketsShareThemApart) {
  EXPECT_EQ(shares_of_host({{0, 1, 2, 3}, {0, 1, 2, 3}, {4, 5, 6, 7}}), (Shares{2, 2, 4}));
  EXPECT_EQ(shares_of_host({{0, 1, 2, 3, 4, 5}, {4, 5}}), (Shares{5, 1}));
}

TEST(CoreShare, RanksOfOtherHostsTakeNothing) {
  EXPECT_EQ(shares(std::vector<RankCores>{{"a", {0, 1, 2, 3}, {}}, {"b", {0, 1, 2, 3}, {}}}),
            (Shares{4, 4}));
}

TEST(CoreShare, TheTimeOfAControlGroupIsSharedByTheRanksInIt) {
  const std::vector<int> all = {0, 1, 2, 3, 4, 5, 6, 7};
  const GroupLimit job{"/job", 1, 4.0};
  const GroupLimit step{"/job/step", 2, 2.5};
  EXPECT_EQ(shares(std::vector<RankCores>{{"a", all, {job}}}), (Shares{4}));
  EXPECT_EQ(shares(std::vector<RankCores>{{"a", all, {step, job}}}), (Shares{2}));
  // Two of three are in the job, one of them in the step.
  EXPECT_EQ(shares(std::vector<RankCores>{
                {"a", all, {step, job}}, {"a", all, {job}}, {"a", {0, 1, 2, 3, 4, 5, 6, 7}, {}}}),
            (Shares{2, 2, 2}));
  EXPECT_EQ(shares(std::vector<RankCores>{{"a", {0}, {job}}, {"b", all, {job}}}), (Shares{1, 4}))
      << "a group of the same number on another host is another group";
  EXPECT_EQ(shares(std::vector<RankCores>{{"a", all, {{"/job", 1, 0.5}}}}), (Shares{1}));
}

TEST(CoreShare, NobodyGoesWithout) {
  EXPECT_EQ(shares_of_host({{0}, {0}, {0}}), (Shares{1, 1, 1}));
  EXPECT_EQ(shares_of_host({{0, 1, 2, 3}, {}}),
            (Shares{4, 1}));  // a mask of more bits than we read
}

TEST(CoreShare, ThisProcessMayUseSomeCoreAndNoMoreThanTheHostHas) {
  const Cores cores = own_cores();
  ASSERT_FALSE(cores.empty());
  EXPECT_GE(*cores.begin(), 0);
}

TEST(CoreShare, RanksOfAWorldDivideWhatTheyAllMayUse) {
  const auto worlds = comm::make_local_worlds(3);
  std::vector<int> found(3);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < worlds.size(); ++rank) {
    threads.emplace_back([&, rank] { found[rank] = share_of_cores(*worlds[rank]); });
  }
  for (std::thread& thread : threads) thread.join();
  double there = static_cast<double>(own_cores().size());
  for (const GroupLimit& limit : processor_limits()) there = std::min(there, limit.amount);
  const int fair = std::max(1, static_cast<int>(there / 3 + 1e-6));
  EXPECT_EQ(found, Shares(3, fair));
}

}  // namespace
}  // namespace sluice::launcher
