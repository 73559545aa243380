// What is set aside is never more than any stage has, and comes back whole.
#include "stage/page_ledger.h"

#include <gtest/gtest.h>

#include "comm/gather.h"

namespace sluice::stage {
namespace {

constexpr std::int32_t kSlots = 4;

TEST(PageLedger, WithoutStagesThereIsNoLimit) {
  PageLedger ledger;
  EXPECT_TRUE(ledger.start(7, 1'000'000, 1'000'000));
  ledger.release(7);
}

TEST(PageLedger, TheStageWithTheFewestPagesDecides) {
  const CacheRoom wide{{100, 0, 0}, 4, {100, 0, 0}};
  const CacheRoom narrow{{100, 0, 0}, 8, {3, 0, 0}};
  PageLedger ledger({wide, narrow}, kSlots);
  EXPECT_TRUE(ledger.start(0, 16, 16));
  EXPECT_FALSE(ledger.start(1, 9, 9));
  EXPECT_TRUE(ledger.start(1, 8, 8));
  EXPECT_FALSE(ledger.start(2, 1, 1));
  ledger.release(0);
  ledger.release(0);  // again: nothing to give back
  ledger.release(3);  // it never had any
  EXPECT_TRUE(ledger.start(2, 16, 16));
  EXPECT_FALSE(ledger.start(3, 1, 1));
}

TEST(PageLedger, WhereLayersHaveAWindowALongSequenceTakesNoMorePagesThanItKeeps) {
  const CacheRoom all{{100, 0, 0}, 4, {30, 0, 0}};
  const CacheRoom windowed{{100, 0, 0}, 4, {9, 0, 0}, 3};
  PageLedger ledger({windowed, all}, kSlots);
  EXPECT_TRUE(ledger.start(0, 40, 40));  // 3 of 9 pages, and 10 of 30
  EXPECT_TRUE(ledger.start(1, 60, 60));
  EXPECT_FALSE(ledger.start(2, 24, 24)) << "6 of the 5 that are left where layers see all";
  EXPECT_TRUE(ledger.start(2, 5, 5));
  EXPECT_FALSE(ledger.start(3, 5, 5)) << "2 of the one that is left where layers have a window";
  ledger.release(0);
  EXPECT_TRUE(ledger.start(3, 13, 13));
}

TEST(PageLedger, EverySlotCountsInItsHomeTierOfEachStage) {
  // Slots 0 and 2 live on the device of the first stage, 1 and 3 on its host.
  const CacheRoom halves{{50, 50, 0}, 1, {10, 5, 0}};
  const CacheRoom disk{{0, 0, 100}, 1, {0, 0, 14}};
  PageLedger ledger({halves, disk}, kSlots);
  EXPECT_FALSE(ledger.start(1, 6, 6)) << "more than the first stage's host";
  EXPECT_TRUE(ledger.start(0, 6, 6));
  EXPECT_TRUE(ledger.start(1, 5, 5));
  EXPECT_FALSE(ledger.start(2, 4, 4)) << "more than the second stage's disk";
  EXPECT_TRUE(ledger.start(2, 3, 3));
}

TEST(PageLedger, ASequenceGrowsWhileAllStagesHavePages) {
  const CacheRoom wide{{100, 0, 0}, 4, {100, 0, 0}};
  const CacheRoom narrow{{100, 0, 0}, 8, {5, 0, 0}};
  PageLedger ledger({wide, narrow}, kSlots);
  EXPECT_EQ(ledger.page_tokens(), 8);
  EXPECT_TRUE(ledger.start(0, 3, 40));
  EXPECT_TRUE(ledger.grow(0, 8));
  EXPECT_TRUE(ledger.grow(0, 5)) << "it has them";
  EXPECT_EQ(ledger.reserved(0), 8);
  EXPECT_TRUE(ledger.start(1, 16, 40));
  EXPECT_TRUE(ledger.grow(0, 17));
  EXPECT_FALSE(ledger.grow(1, 17));
  const PoolName pool = ledger.short_of(1, 17);
  EXPECT_EQ(pool.stage, 1U);
  EXPECT_EQ(pool.tier, offload::Tier::device);
  EXPECT_EQ(ledger.reserved(1), 16) << "nothing was taken on any stage";
  ledger.release(0);
  EXPECT_TRUE(ledger.grow(1, 40));
  ledger.release(1);
  EXPECT_FALSE(ledger.start(2, 1, 41)) << "it could never come to its end";
}

TEST(PageLedger, APageIsLeftForEachThatMayGrow) {
  PageLedger ledger({CacheRoom{{100, 0, 0}, 4, {9, 0, 0}}}, kSlots);
  EXPECT_TRUE(ledger.start(0, 8, 20));
  EXPECT_TRUE(ledger.start(1, 8, 8)) << "it does not grow";
  EXPECT_FALSE(ledger.start(2, 17, 17));
  EXPECT_TRUE(ledger.start(2, 16, 16));
  EXPECT_FALSE(ledger.start(3, 1, 1)) << "the last page is for the first";
  EXPECT_FALSE(ledger.can_grow({13, 8, 0, 0}));
  EXPECT_TRUE(ledger.can_grow({12, 8, 16, 0}));
  EXPECT_TRUE(ledger.grow(0, 12));
  EXPECT_FALSE(ledger.grow(0, 13));
  ledger.release(1);
  EXPECT_TRUE(ledger.grow(0, 20));
  EXPECT_FALSE(ledger.start(3, 1, 1)) << "there is none";
}

TEST(PageLedger, ARoomReachesEveryRankAsItWas) {
  const CacheRoom room{{100.0 / 3, 0.1, 100 - 100.0 / 3 - 0.1}, 16, {1, 2, 3}, 7};
  const auto worlds = comm::make_local_worlds(1);
  const CacheRoom read = comm::gather(*worlds[0], room).front();
  EXPECT_EQ(read.shares.device, room.shares.device);
  EXPECT_EQ(read.shares.host, room.shares.host);
  EXPECT_EQ(read.shares.disk, room.shares.disk);
  EXPECT_EQ(read.page_tokens, 16);
  EXPECT_EQ(read.pages, room.pages);
  EXPECT_EQ(read.pages_per_slot, 7);
}

}  // namespace
}  // namespace sluice::stage
