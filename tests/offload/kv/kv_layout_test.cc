#include "offload/kv/kv_layout.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "kernels/device/error.h"
#include "offload/kv/kv_tables.h"

namespace sluice::offload {
namespace {

KvShape shape_of(std::int32_t slots) {
  KvShape shape;
  shape.layers = 3;
  shape.slots = slots;
  shape.tokens_per_slot = 10;
  shape.gpu_batch_size = 4;
  shape.tokens_per_gpu_batch = 12;
  shape.query_heads = 2;
  shape.kv_heads = 2;
  shape.head_dim = 3;
  shape.page_tokens = 4;
  return shape;
}

TEST(KvLayout, EveryPageOfEveryLayerIsItsOwn) {
  Policy policy;
  policy.cache = {50, 20, 30};
  const KvLayout layout(shape_of(20), policy);
  EXPECT_EQ(layout.pages_per_slot, 3);
  EXPECT_EQ(layout.page_bytes, 2U * 2 * 4 * 3 * 4);
  EXPECT_EQ(layout.file_page_bytes, 4096U);
  EXPECT_EQ(layout.tiers, cache_tiers(policy.cache, 20));
  EXPECT_EQ(layout.slots, (PerTier<std::int32_t>{10, 4, 6}));
  EXPECT_EQ(layout.farthest().pool, (PerTier<std::int32_t>{30, 12, 18}));
  std::set<std::int64_t> pages;
  std::set<std::uint64_t> offsets;
  for (std::int32_t layer = 0; layer < 3; ++layer) {
    for (std::int32_t page = 0; page < layout.pool_of(Tier::host); ++page) {
      EXPECT_TRUE(pages.insert(layout.page_index(layer, page, Tier::host)).second);
    }
    for (std::int32_t page = 0; page < layout.pool_of(Tier::disk); ++page) {
      EXPECT_TRUE(offsets.insert(layout.file_offset(layer, page)).second);
      EXPECT_LE(layout.file_offset(layer, page) + 4096, layout.file_bytes());
    }
  }
  EXPECT_EQ(pages.size(), 36U);
  EXPECT_EQ(*pages.rbegin(), 35);
  EXPECT_EQ(layout.file_bytes(), offsets.size() * 4096);
}

TEST(KvLayout, AnAskedForPoolBoundsCacheAndStaging) {
  Policy policy;
  policy.cache = {0, 50, 50};
  KvShape shape = shape_of(20);
  shape.pool_pages = {0, 5, 4};
  const KvLayout layout(shape, policy);
  EXPECT_EQ(layout.farthest().pool, (PerTier<std::int32_t>{0, 5, 4}));
  EXPECT_EQ(layout.streamed_pages, 9);
  EXPECT_EQ(layout.disk_pages, 4);
  EXPECT_EQ(layout.completed_pages, 4);
  shape.pool_pages = {7, 1000, 1000};  // more than all slots can use
  EXPECT_EQ(KvLayout(shape, policy).farthest().pool, (PerTier<std::int32_t>{0, 30, 30}));
  shape.pool_pages = {0, 0, 2};
  EXPECT_THROW(KvLayout(shape, policy), ConfigError) << "less than one sequence";
}

TEST(KvLayout, QuantisedPagesAreWholeGroups) {
  Policy policy;
  KvShape shape = shape_of(4);
  shape.head_dim = 80;  // two groups of 64
  for (const auto& [dtype, row] : {std::pair{DType::q8, 2U * 68}, std::pair{DType::q4, 2U * 36},
                                   std::pair{DType::f16, 160U}}) {
    policy.cache_dtype = dtype;
    EXPECT_EQ(KvLayout(shape, policy).page_bytes, 2U * 2 * 4 * row);
  }
}

// A cache of f32 beside activations of 16 bits would be twice the memory, for nothing.
TEST(KvLayout, UnlessToldOtherwiseTheCacheIsOfTheComputeType) {
  const Policy unset;
  Policy f32;
  f32.cache_dtype = DType::f32;
  for (const DType compute : {DType::f32, DType::f16, DType::bf16}) {
    KvShape shape = shape_of(4);
    shape.compute_dtype = compute;
    EXPECT_EQ(KvLayout(shape, unset).cache_dtype, compute);
    EXPECT_EQ(KvLayout(shape, f32).cache_dtype, DType::f32);
    EXPECT_EQ(KvLayout(shape, unset).page_bytes * sizeof(float),
              KvLayout(shape, f32).page_bytes * size_of(compute));
  }
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

// Two query heads share each KV head: the cache holds KV heads only, and so do rows of keys and
// values on their way; queries and results are wider.
TEST(KvLayout, ACacheOfSharedHeadsIsAsSmallAsItsKvHeads) {
  KvShape shape = shape_of(20);
  shape.query_heads = 4;
  for (const bool cpu : {false, true}) {
    Policy policy;
    policy.cache = {0, 100, 0};
    policy.cpu_cache_compute = cpu;
    const KvLayout layout(shape, policy);
    EXPECT_EQ(layout.page_bytes, 2U * 2 * 4 * 3 * 4);
    EXPECT_EQ(layout.kv_row_bytes, 2U * 3 * 4);
    EXPECT_EQ(layout.query_row_bytes, 4U * 3 * 4);
    const KvMemory shared(layout, {});
    const KvMemory own(KvLayout(shape_of(20), policy), {});
    EXPECT_EQ(shared.host_cache_bytes, own.host_cache_bytes);
    // Two sets of 12 rows of queries and results, 2 heads of 3 floats wider each.
    const std::uint64_t wider = cpu ? 2U * 2 * 12 * 2 * 3 * 4 : 0U;
    EXPECT_EQ(shared.host_staging_bytes, own.host_staging_bytes + wider);
  }
}

TEST(KvLayout, ShapesThatCannotBeAreRefused) {
  const std::function<void(KvShape&)> bad[] = {
      [](KvShape& s) { s.layers = 0; },          [](KvShape& s) { s.slots = -1; },
      [](KvShape& s) { s.tokens_per_slot = 0; }, [](KvShape& s) { s.gpu_batches = 0; },
      [](KvShape& s) { s.gpu_batch_size = 0; },  [](KvShape& s) { s.tokens_per_gpu_batch = 0; },
      [](KvShape& s) { s.query_heads = 0; },     [](KvShape& s) { s.head_dim = 0; },
      [](KvShape& s) { s.kv_heads = 0; },        [](KvShape& s) { s.query_heads = 3; },
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
  shape.query_heads = shape.kv_heads = shape.head_dim = kMost;
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
  KvPageTable pages(layout);
  for (const std::int32_t slot : {1, 2, 0}) pages.take(slot, 10, 10);
  // Pages of 4: slot 2 has 3 tokens and gets 6; slot 1 gets 4 (a page, exactly); slot 0 gets 1.
  const KvSequence sequences[] = {{2, 0, 6, 9}, {1, 6, 4, 4}, {0, 10, 1, 1}};
  KvStagedPages staged(layout);
  step.fill(layout, {&pages, 1}, staged, sequences, 5);
  const KvReachStep& reach = step.of(layout, 0);
  EXPECT_EQ(reach.completed_homes, (std::vector<std::int32_t>{3, 4, 0}));
  ASSERT_EQ(step.begun_pages.size(), 1U);
  EXPECT_EQ(step.begun_pages[0].place, 2);
  EXPECT_EQ(step.begun_pages[0].write_page, 0);
  EXPECT_EQ(reach.homes, (std::vector<std::int32_t>{3, 4, 5, 0, 6}));
  ASSERT_EQ(reach.streamed_sequences.size(), 3U);
  EXPECT_EQ(reach.streamed_sequences[2].first_page, 4);
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
