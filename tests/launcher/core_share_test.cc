#include "launcher/generate/core_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "comm/world.h"

namespace sluice::launcher {
namespace {

std::vector<int> shares(const std::vector<Cores>& ranks) {
  std::vector<int> result;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    result.push_back(share_of_cores(ranks, rank));
  }
  return result;
}

using Shares = std::vector<int>;

TEST(CoreShare, RanksBoundToTheirOwnCoresKeepThemAll) {
  EXPECT_EQ(shares({{0, 1, 2, 3}, {4, 5, 6, 7}}), (Shares{4, 4}));
  EXPECT_EQ(shares({{0}, {1, 2}, {3}}), (Shares{1, 2, 1}));
}

TEST(CoreShare, RanksThatWereNotBoundDivideTheHost) {
  EXPECT_EQ(shares({{0, 1, 2, 3}}), (Shares{4}));
  EXPECT_EQ(shares({{0, 1, 2, 3}, {0, 1, 2, 3}}), (Shares{2, 2}));
  EXPECT_EQ(shares({{0, 1, 2}, {0, 1, 2}, {0, 1, 2}}), (Shares{1, 1, 1}));
}

TEST(CoreShare, RanksOfTwoSocketsShareThemApart) {
  EXPECT_EQ(shares({{0, 1, 2, 3}, {0, 1, 2, 3}, {4, 5, 6, 7}}), (Shares{2, 2, 4}));
  EXPECT_EQ(shares({{0, 1, 2, 3, 4, 5}, {4, 5}}), (Shares{5, 1}));
}

TEST(CoreShare, NobodyGoesWithout) {
  EXPECT_EQ(shares({{0}, {0}, {0}}), (Shares{1, 1, 1}));
  EXPECT_EQ(shares({{0, 1, 2, 3}, {}}), (Shares{4, 1}));  // a mask of more bits than we read
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
  const int fair = std::max(1, static_cast<int>(own_cores().size()) / 3);
  EXPECT_EQ(found, Shares(3, fair));
}

}  // namespace
}  // namespace sluice::launcher
