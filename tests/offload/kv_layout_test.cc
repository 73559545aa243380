#include "offload/kv_layout.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "kernels/device/error.h"
#include "offload/kv_tables.h"

namespace sluice::offload {
namespace {

KvShape shape_of(std::int32_t slots) {
  KvShape shape;
  shape.layers = 3;
  shape.slots = slots;
  shape.tokens_per_slot = 10;
  shape.gpu_batch_size = 4;
  shape.tokens_per_gpu_batch = 12;
  shape.heads = 2;
  shape.head_dim = 3;
  shape.page_tokens = 4;
  return shape;
}

TEST(KvLayout, EveryPageOfEverySlotIsItsOwn) {
  Policy policy;
  policy.cache = {50, 20, 30};
  const KvLayout layout(shape_of(20), policy);
  EXPECT_EQ(layout.pages_per_slot, 3);
  EXPECT_EQ(layout.page_bytes, 2U * 2 * 4 * 3 * 4);
  EXPECT_EQ(layout.file_page_bytes, 4096U);
  EXPECT_EQ(layout.tiers, cache_tiers(policy.cache, 20));
  EXPECT_EQ(layout.slots, (PerTier<std::int32_t>{10, 4, 6}));
  std::set<std::pair<Tier, std::int64_t>> pages;
  std::set<std::uint64_t> offsets;
  for (std::int32_t slot = 0; slot < 20; ++slot) {
    const Tier tier = layout.tiers[static_cast<std::size_t>(slot)];
    const std::int32_t place = layout.places[static_cast<std::size_t>(slot)];
    for (std::int32_t layer = 0; layer < 3; ++layer) {
      for (std::int32_t page = 0; page < 3; ++page) {
        EXPECT_TRUE(pages.insert({tier, layout.first_page(layer, place, tier) + page}).second);
        if (tier != Tier::disk) continue;
        EXPECT_TRUE(offsets.insert(layout.file_offset(place, layer, page)).second);
        EXPECT_LE(layout.file_offset(place, layer, page) + 4096, layout.file_bytes());
      }
    }
  }
  EXPECT_EQ(layout.file_bytes(), offsets.size() * 4096);
}

TEST(KvLayout, ThePlanHoldsOnlyWhatThePolicyNeeds) {
  const auto totals = [](const Shares& shares, bool cpu) {
    Policy policy;
    policy.cache = shares;
    policy.cpu_cache_compute = cpu;
    MemoryPlan plan;
    KvCache::plan(shape_of(20), policy, plan);
    return PerTier<std::uint64_t>{plan.total(Tier::device), plan.total(Tier::host),
                                  plan.total(Tier::disk)};
  };
  const std::uint64_t cache = 20 * 3 * 3 * 192;  // slots, layers, pages
  const std::uint64_t table = 128;               // 4 x (3 + 3) integers, rounded up to 64
  const std::uint64_t rows = 12 * 6 * 4;
  EXPECT_EQ(totals({100, 0, 0}, false),
            (PerTier<std::uint64_t>{cache + 2 * table, 2 * 5 * table, 0}));
  EXPECT_EQ(totals({0, 100, 0}, true),
            (PerTier<std::uint64_t>{2 * table, cache + 2 * (4 * rows) + 2 * 5 * table, 0}));
  const std::uint64_t staged = 4 * 3 * 192;  // sequences of a GPU batch, pages
  EXPECT_EQ(
      totals({0, 100, 0}, false),
      (PerTier<std::uint64_t>{2 * staged + 2 * table, cache + 2 * (2 * rows) + 2 * 5 * table, 0}));
  EXPECT_EQ(totals({0, 0, 100}, false)[2], std::uint64_t{20 * 3 * 3 * 4096});
}

TEST(KvLayout, ShapesThatCannotBeAreRefused) {
  const std::function<void(KvShape&)> bad[] = {
      [](KvShape& s) { s.layers = 0; },          [](KvShape& s) { s.slots = -1; },
      [](KvShape& s) { s.tokens_per_slot = 0; }, [](KvShape& s) { s.gpu_batches = 0; },
      [](KvShape& s) { s.gpu_batch_size = 0; },  [](KvShape& s) { s.tokens_per_gpu_batch = 0; },
      [](KvShape& s) { s.heads = 0; },           [](KvShape& s) { s.head_dim = 0; },
      [](KvShape& s) { s.page_tokens = 0; },     [](KvShape& s) { s.compute_dtype = DType::i32; }};
  for (const auto& change : bad) {
    KvShape shape = shape_of(4);
    change(shape);
    EXPECT_THROW(KvLayout(shape, Policy{}), ConfigError);
  }
  Policy policy;
  policy.cache = {50, 20, 20};
  EXPECT_THROW(KvLayout(shape_of(4), policy), ConfigError);
  policy.cache = {0, 0, 0};
  EXPECT_THROW(KvLayout(shape_of(4), policy), ConfigError);
}

TEST(KvLayout, SizesThatCannotBeCountedAreRefused) {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  KvShape shape = shape_of(4);
  shape.heads = shape.head_dim = kMost;
  shape.page_tokens = kMost;
  EXPECT_THROW(KvLayout(shape, Policy{}), CapacityError);
  shape = shape_of(4);
  shape.tokens_per_slot = kMost;
  shape.page_tokens = 1;
  EXPECT_THROW(KvLayout(shape, Policy{}), CapacityError) << "pages beyond 32 bits";
  shape = shape_of(4);
  shape.layers = shape.tokens_per_slot = kMost;
  shape.head_dim = 1 << 20;
  EXPECT_THROW(KvLayout(shape, Policy{}), CapacityError) << "offsets beyond 63 bits";
}

TEST(KvTables, NewTokensOfADiskSequenceAreSplitAtTheLastFullPage) {
  Policy policy;
  policy.cache = {0, 0, 100};
  const KvLayout layout(shape_of(4), policy);
  std::vector<std::int32_t> memory(KvStep::host_table_bytes(layout) / 4);
  KvStep step(layout, reinterpret_cast<std::byte*>(memory.data()));
  // Pages of 4: slot 2 has 3 tokens and gets 6; slot 1 gets 4 (a page, exactly); slot 0 gets 1.
  const KvSequence sequences[] = {{2, 0, 6, 9}, {1, 6, 4, 4}, {0, 10, 1, 1}};
  step.fill(layout, sequences, 5);
  ASSERT_EQ(step.completed_runs.size(), 2U);
  EXPECT_TRUE(step.completed_runs[0].from_tail);
  EXPECT_EQ(step.completed_runs[0].pages, 2);
  EXPECT_FALSE(step.completed_runs[1].from_tail);
  EXPECT_EQ(step.completed_runs[1].write_page, 2);
  const kernels::KvBatch full = step.completed.batch();
  EXPECT_EQ(full.new_tokens[0], 5);
  EXPECT_EQ(full.context[0], 8);
  EXPECT_EQ(full.pages[1], 1);
  EXPECT_EQ(full.pages[full.max_pages], 2);
  const kernels::KvBatch tails = step.tails.batch();
  ASSERT_EQ(tails.sequences, 2);
  EXPECT_EQ(tails.first_row[0], 5);
  EXPECT_EQ(tails.new_tokens[0], 1);
  EXPECT_EQ(tails.context[0], 9);
  EXPECT_EQ(tails.pages[2], 2);
  ASSERT_EQ(step.disk_rows.size(), 1U) << "neighbours are one copy";
  EXPECT_EQ(step.disk_rows[0].count, 11);
}

}  // namespace
}  // namespace sluice::offload
