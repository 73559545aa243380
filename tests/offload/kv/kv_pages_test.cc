// Every page has one owner at most, whoever comes and goes; pages of prefixes may have several.
#include "offload/kv/kv_pages.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "kernels/device/error.h"

namespace sluice::offload {
namespace {

KvLayout layout_of(const Shares& shares, const PerTier<std::int32_t>& pool) {
  KvShape shape;
  shape.layers = shape.query_heads = shape.kv_heads = shape.head_dim = 1;
  shape.slots = 12;
  shape.tokens_per_slot = 24;
  shape.page_tokens = 4;
  shape.pool_pages = pool;
  Policy policy;
  policy.cache = shares;
  return KvLayout(shape, policy);
}

std::vector<std::int32_t> pages_of(const KvPageTable& table, std::int32_t slot) {
  std::vector<std::int32_t> pages(static_cast<std::size_t>(table.count(slot)));
  table.list(slot, 0, pages);
  return pages;
}

using Pages = std::vector<std::int32_t>;

TEST(KvPageTable, NeighboursWhereThereAreSoManyInARowElseTheLowestFree) {
  const KvLayout layout = layout_of({100, 0, 0}, {10, 0, 0});
  KvPageTable table(layout);
  table.take(0, 9, 9);
  table.take(1, 8, 8);
  table.take(2, 12, 12);
  EXPECT_EQ(pages_of(table, 0), (Pages{0, 1, 2}));
  EXPECT_EQ(pages_of(table, 1), (Pages{3, 4}));
  EXPECT_EQ(pages_of(table, 2), (Pages{5, 6, 7}));
  EXPECT_EQ(table.free_pages(Tier::device), 2);
  table.give_back(1);
  table.take(3, 5, 5);
  EXPECT_EQ(pages_of(table, 3), (Pages{3, 4}));
  table.give_back(3);
  table.take(4, 13, 13);  // 3, 4 and 8, 9 are free
  EXPECT_EQ(pages_of(table, 4), (Pages{3, 4, 8, 9}));
  std::vector<std::int32_t> middle(2);
  table.list(4, 1, middle);
  EXPECT_EQ(middle, (Pages{4, 8}));
  EXPECT_THROW(table.take(5, 1, 1), Error);
  EXPECT_EQ(table.count(5), 0);
  table.give_back(4);
  table.give_back(4);  // it has none
  EXPECT_EQ(table.free_pages(Tier::device), 4);
}

TEST(KvPageTable, PagesOfAPrefixAreFreeWhenItAndAllThatBeginWithItAreGone) {
  const KvLayout layout = layout_of({100, 0, 0}, {10, 0, 0});
  KvPageTable table(layout);
  EXPECT_EQ(table.most_prefixes(), 10);
  table.take(0, 11, 11);
  table.keep(0, 0, 7);
  table.keep(0, 1, 3);
  table.share(1, 3);
  table.take(1, 12, 16);
  EXPECT_EQ(pages_of(table, 1), (Pages{0, 1, 3}));
  table.share(2, 7);
  table.take(2, 5, 5);
  EXPECT_EQ(pages_of(table, 2), (Pages{0, 5})) << "4 is kept for slot 1";
  table.give_back(0);
  EXPECT_EQ(table.free_pages(Tier::device), 6) << "0 and 1 are prefixes, 3 and 5 of the others";
  table.drop(3);
  EXPECT_EQ(table.free_pages(Tier::device), 6);
  table.give_back(1);
  EXPECT_EQ(table.free_pages(Tier::device), 8);
  table.drop(7);
  table.give_back(2);
  EXPECT_EQ(table.free_pages(Tier::device), 10);
}

TEST(KvPageTable, PrefixesThatCannotBeAreRefused) {
  const KvLayout layout = layout_of({50, 50, 0}, {6, 6, 0});
  KvPageTable table(layout);
  table.take(0, 8, 8);
  table.keep(0, 1, 5);
  EXPECT_THROW(table.keep(0, 0, 5), Error) << "there is one of this number";
  EXPECT_THROW(table.keep(0, 2, 6), Error) << "it has no such page";
  EXPECT_THROW(table.keep(0, 0, 12), Error) << "no such number";
  EXPECT_THROW(table.share(1, 4), Error) << "there is none";
  EXPECT_THROW(table.share(0, 5), Error) << "it has pages";
  EXPECT_THROW(table.share(11, 5), Error) << "it lies in another tier";
  EXPECT_THROW(table.drop(4), Error);
}

TEST(KvPageTable, ASequenceGrowsIntoItsNeighbours) {
  const KvLayout layout = layout_of({100, 0, 0}, {10, 0, 0});
  KvPageTable table(layout);
  table.take(0, 1, 16);
  table.take(1, 1, 12);
  EXPECT_EQ(pages_of(table, 0), (Pages{0}));
  EXPECT_EQ(pages_of(table, 1), (Pages{4})) << "1 to 3 are left to the first";
  table.take(0, 5, 16);
  table.take(0, 6, 16);  // it has them
  table.take(2, 4, 4);
  EXPECT_EQ(pages_of(table, 0), (Pages{0, 1}));
  EXPECT_EQ(pages_of(table, 2), (Pages{7}));
  table.take(0, 16, 16);
  EXPECT_EQ(pages_of(table, 0), (Pages{0, 1, 2, 3}));
  table.take(3, 16, 16);  // no four in a row: 8 and 9, then those that are left to the second
  EXPECT_EQ(pages_of(table, 3), (Pages{8, 9, 5, 6}));
  EXPECT_EQ(table.free_pages(Tier::device), 0);
  EXPECT_THROW(table.take(1, 5, 12), Error);
  table.give_back(2);
  table.take(1, 5, 12);
  EXPECT_EQ(pages_of(table, 1), (Pages{4, 7}));
  table.give_back(0);
  table.take(4, 1, 16);
  EXPECT_EQ(pages_of(table, 4), (Pages{0}));
}

TEST(KvPageTable, WhatIsLeftToASequenceThatEndsIsAnybodys) {
  const KvLayout layout = layout_of({100, 0, 0}, {6, 0, 0});
  KvPageTable table(layout);
  table.take(0, 1, 24);
  table.take(1, 1, 1);
  EXPECT_EQ(pages_of(table, 1), (Pages{1})) << "there is no page that is left to nobody";
  table.give_back(0);
  table.take(2, 1, 16);
  EXPECT_EQ(pages_of(table, 2), (Pages{2}));
  table.take(3, 1, 1);
  EXPECT_EQ(pages_of(table, 3), (Pages{0}));
}

TEST(KvPageTable, NoPageHasTwoOwnersAndNoneIsLost) {
  const KvLayout layout = layout_of({40, 30, 30}, {11, 9, 7});
  std::mt19937 random(3);
  KvPageTable table(layout);
  KvPageTable twin(layout);
  for (int round = 0; round < 2000; ++round) {
    const auto slot = static_cast<std::int32_t>(random() % 12);
    const auto tokens = static_cast<std::int32_t>(1 + random() % 24);
    if (table.count(slot) > 0 && random() % 2 == 0) {
      table.give_back(slot);
      twin.give_back(slot);
    } else if (layout.pages_for(tokens) - table.count(slot) <=
               table.free_pages(layout.tiers[static_cast<std::size_t>(slot)])) {
      table.take(slot, tokens, 24);
      twin.take(slot, tokens, 24);
    }
    PerTier<std::set<std::int32_t>> owned;
    for (std::int32_t owner = 0; owner < 12; ++owner) {
      const auto tier = static_cast<std::size_t>(layout.tiers[static_cast<std::size_t>(owner)]);
      EXPECT_EQ(pages_of(table, owner), pages_of(twin, owner));
      for (const std::int32_t page : pages_of(table, owner)) {
        ASSERT_TRUE(owned[tier].insert(page).second) << page;
        ASSERT_LT(page, layout.farthest().pool[tier]);
      }
    }
    for (std::size_t tier = 0; tier < owned.size(); ++tier) {
      ASSERT_EQ(
          static_cast<std::int32_t>(owned[tier].size()) + table.free_pages(static_cast<Tier>(tier)),
          layout.farthest().pool[tier]);
    }
  }
}

TEST(KvPageRuns, NeighboursAreOne) {
  std::vector<std::pair<std::size_t, std::size_t>> runs;
  const auto add = [&runs](std::size_t index, std::size_t count) {
    runs.push_back({index, count});
  };
  const Pages pages = {4, 5, 6, 2, 3, 9, 8};
  for_each_run(pages, add);
  using Runs = std::vector<std::pair<std::size_t, std::size_t>>;
  EXPECT_EQ(runs, (Runs{{0, 3}, {3, 2}, {5, 1}, {6, 1}}));
  runs.clear();
  for_each_run({}, add);
  EXPECT_TRUE(runs.empty());
}

}  // namespace
}  // namespace sluice::offload
