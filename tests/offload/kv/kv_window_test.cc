// Layers with a window keep no more pages than their queries see, and nobody can tell from the
// results.
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_tables.h"
#include "tests/support/kv_workload.h"
#include "tests/support/shuffled_engine.h"

namespace sluice::support {
namespace {

using offload::DiskEngine;
using offload::KvLayout;
using offload::KvPageTable;
using offload::KvReachStep;
using offload::KvSequence;
using offload::KvShape;
using offload::KvStep;
using offload::PerTier;
using offload::Policy;
using offload::Shares;
using offload::Tier;

using Numbers = std::vector<std::int32_t>;

constexpr Shares kShares[] = {{100, 0, 0}, {0, 100, 0}, {0, 0, 100}, {50, 20, 30}, {0, 50, 50}};

/// Sequences of up to 70 tokens, of which a pass brings at most 13 for a GPU batch.
KvShape shape_of(const Numbers& windows, std::int32_t page_tokens, std::int32_t micro_batches) {
  KvShape shape;
  shape.layers = static_cast<std::int32_t>(windows.size());
  shape.windows = windows;
  shape.gpu_batches = 2;
  shape.gpu_batch_size = 3;
  shape.slots = micro_batches * shape.gpu_batches * shape.gpu_batch_size;
  shape.tokens_per_slot = 70;
  shape.tokens_per_gpu_batch = 13;
  shape.query_heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 4;
  shape.page_tokens = page_tokens;
  return shape;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::uint64_t cache_bytes(const offload::MemoryPlan& plan) {
  return plan.total(Tier::device, "KV cache") + plan.total(Tier::host, "KV cache") +
         plan.total(Tier::disk, "KV cache");
}

class KvWindowLaw : public testing::TestWithParam<std::tuple<Numbers, std::int32_t>> {
 protected:
  /// Whether results are the same with all pages and with those in sight, wherever they are.
  void run(const KvWorkload& work, kernels::Engine (*make_engine)(unsigned)) {
    KvShape whole = work.shape;
    whole.windows.clear();
    KvRig first(make_engine(0), whole, kv_policy(kShares[0], false), disk_.get());
    const std::vector<float> wanted = run_kv_workload(first, work, KvPrefetch::never);
    const std::vector<double> reference = kv_reference(work, 0.5F);
    ASSERT_EQ(wanted.size(), reference.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(wanted[i]), reference[i], 1e-5) << "at " << i;
    }
    unsigned order = 0;
    for (const Shares& shares : kShares) {
      for (const bool cpu : {false, true}) {
        if (cpu && shares.host == 0) continue;  // alike
        for (const KvPrefetch mode : {KvPrefetch::ahead, KvPrefetch::by_chance}) {
          KvRig rig(make_engine(++order), work.shape, kv_policy(shares, cpu), disk_.get());
          ASSERT_TRUE(same_bits(run_kv_workload(rig, work, mode), wanted))
              << shares.device << "/" << shares.host << "/" << shares.disk << " cpu " << cpu
              << " prefetch " << static_cast<int>(mode) << " order " << order;
          EXPECT_EQ(rig.device.used(), rig.plan.total(Tier::device));
          EXPECT_EQ(rig.host.used(), rig.plan.total(Tier::host));
          EXPECT_EQ(rig.cache().disk_bytes(), rig.plan.total(Tier::disk));
        }
      }
    }
  }

  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({.allow_io_uring = false});
};

TEST_P(KvWindowLaw, AttentionIsTheSameWithPagesInSightOnly) {
  const auto& [windows, page_tokens] = GetParam();
  for (const std::int32_t micro_batches : {1, 2}) {
    const KvShape shape = shape_of(windows, page_tokens, micro_batches);
    run(make_kv_workload(shape, micro_batches, 50, 3U + static_cast<unsigned>(micro_batches)),
        make_shuffled_engine);
  }
}

kernels::Engine make_cpu_engine(unsigned seed) {
  return kernels::make_cpu_engine({.threads = 1 + static_cast<int>(seed % 2)});
}

TEST_P(KvWindowLaw, AlsoOnTheCpuEngine) {
  const auto& [windows, page_tokens] = GetParam();
  run(make_kv_workload(shape_of(windows, page_tokens, 2), 2, 50, 99), make_cpu_engine);
}

TEST_P(KvWindowLaw, AlsoWherePoolsHoldTwoSequences) {
  const auto& [windows, page_tokens] = GetParam();
  KvShape shape = shape_of(windows, page_tokens, 1);
  const std::int32_t pages = 2 * KvLayout(shape, {}).farthest().pages_per_slot + 1;
  shape.pool_pages = {pages, pages, pages};
  const KvWorkload work = make_kv_workload(shape, 1, 80, 11);
  std::vector<float> wanted;
  unsigned order = 0;
  for (const Shares& shares : kShares) {
    for (const bool cpu : {false, true}) {
      KvRig rig(make_shuffled_engine(++order), shape, kv_policy(shares, cpu), disk_.get());
      const std::vector<float> got = run_kv_workload(rig, work, KvPrefetch::by_chance);
      if (wanted.empty()) wanted = got;
      ASSERT_TRUE(same_bits(got, wanted)) << "order " << order;
    }
  }
  const std::vector<double> reference = kv_reference(work, 0.5F);
  ASSERT_EQ(wanted.size(), reference.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(wanted[i]), reference[i], 1e-5) << "at " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Windows, KvWindowLaw,
                         testing::Combine(testing::Values(Numbers{6, 6}, Numbers{0, 17},
                                                          Numbers{20, 0}, Numbers{3, 0, 9},
                                                          Numbers{1, 70, 1000}),
                                          testing::Values(1, 4, 16)));

TEST(KvWindow, PagesThatASequenceKeepsDoNotGrowWithItsLength) {
  for (const std::int32_t tokens : {1000, 100'000}) {
    KvShape shape = shape_of({64, 64}, 16, 1);
    shape.tokens_per_slot = tokens;
    shape.tokens_per_gpu_batch = 32;
    for (const Shares& shares : kShares) {
      const KvLayout layout(shape, kv_policy(shares, false));
      ASSERT_EQ(layout.reaches.size(), 1U);
      // 63 tokens in sight and 32 new ones: 95 that begin at the end of a page.
      EXPECT_EQ(layout.farthest().pages_per_slot, 7);
      EXPECT_EQ(layout.pages_per_slot, (tokens - 1) / 16 + 1);
      std::int64_t pages = 0;
      for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) pages += layout.pages_in(tier);
      EXPECT_EQ(pages, 2 * 6 * 7);
      EXPECT_LE(layout.streamed_pages, 3 * 7);
      EXPECT_LE(layout.completed_pages, 32 / 16 + 3);
    }
  }
}

TEST(KvWindow, LayersThatSeeAllKeepTheirPagesBesideThoseThatDoNot) {
  KvShape shape = shape_of({0, 32, 32, 0, 32}, 4, 1);
  const Policy policy = kv_policy({50, 20, 30}, false);
  const KvLayout layout(shape, policy);
  ASSERT_EQ(layout.reaches.size(), 2U);
  EXPECT_EQ(layout.reaches[0].window, 0);
  EXPECT_EQ(layout.reaches[0].layers, 2);
  EXPECT_EQ(layout.reaches[0].pages_per_slot, 18);
  EXPECT_EQ(layout.reaches[1].window, 32);
  EXPECT_EQ(layout.reaches[1].layers, 3);
  EXPECT_EQ(layout.reaches[1].pages_per_slot, 12);  // 31 + 13 tokens from the end of a page
  for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
    const std::int32_t slots = layout.slots_in(tier);
    EXPECT_EQ(layout.pages_in(tier), slots * (2 * 18 + 3 * 12));
    std::set<std::int64_t> pages;
    for (std::int32_t layer = 0; layer < 5; ++layer) {
      const std::size_t reach = layout.reach_of(layer);
      EXPECT_EQ(reach, shape.windows[static_cast<std::size_t>(layer)] > 0 ? 1U : 0U);
      const std::int32_t pool = layout.reaches[reach].pool[static_cast<std::size_t>(tier)];
      for (std::int32_t page = 0; page < pool; ++page) {
        const std::int64_t index = layout.page_index(layer, page, tier);
        EXPECT_TRUE(pages.insert(index).second);
        EXPECT_LT(index, layout.pages_in(tier));
      }
    }
    EXPECT_EQ(static_cast<std::int64_t>(pages.size()), layout.pages_in(tier));
  }
  shape.windows = {0, 70, 71, 0, 1000};  // no sequence is longer
  EXPECT_EQ(KvLayout(shape, policy).reaches.size(), 1U);
}

/// Where the pools are bounded, whoever finds pages in the first reach finds them in the second.
TEST(KvWindow, TheLayersThatSeeFarthestDecideWhoFindsRoom) {
  KvShape shape = shape_of({0, 16}, 4, 2);
  for (const std::int32_t pool : {18, 30, 100}) {
    shape.pool_pages = {pool, 0, 0};
    const KvLayout layout(shape, kv_policy(kShares[0], false));
    KvPageTable all(layout, 0);
    KvPageTable windowed(layout, 1);
    std::mt19937 random(static_cast<unsigned>(pool));
    for (int round = 0; round < 2000; ++round) {
      const auto slot = static_cast<std::int32_t>(random() % 12);
      const auto tokens = static_cast<std::int32_t>(1 + random() % 70);
      if (all.count(slot) > 0 && random() % 2 == 0) {
        all.give_back(slot);
        windowed.give_back(slot);
      } else if (layout.pages_for(tokens) > all.count(slot) &&
                 layout.pages_for(tokens) - all.count(slot) <= all.free_pages(Tier::device)) {
        all.take(slot, tokens, tokens);
        ASSERT_NO_THROW(windowed.take(slot, tokens, tokens));
        ASSERT_EQ(windowed.count(slot),
                  std::min(layout.pages_for(tokens), layout.reaches[1].pages_per_slot));
      }
    }
  }
}

TEST(KvWindow, PagesAreUsedInTurn) {
  KvShape shape = shape_of({8}, 4, 1);
  shape.tokens_per_gpu_batch = 6;  // and 7 in sight: 13 tokens in 4 pages at most
  const KvLayout layout(shape, kv_policy(kShares[0], false));
  KvPageTable pages(layout);
  pages.take(1, 9, 9);
  pages.take(0, 5, 70);
  pages.take(0, 70, 70);
  EXPECT_EQ(pages.count(0), 4);
  EXPECT_EQ(pages.count(1), 3) << "a short one takes what it needs";
  Numbers numbers(5);
  pages.list(0, 9, numbers);
  EXPECT_EQ(numbers, (Numbers{4, 5, 6, 3, 4}));
  pages.list(0, 11, {numbers.data(), 2});
  EXPECT_EQ(numbers[0], 6);
  EXPECT_EQ(numbers[1], 3);
}

TEST(KvWindow, OnlyPagesInSightAreNamedAndStaged) {
  KvShape shape = shape_of({8, 0}, 4, 1);
  shape.tokens_per_gpu_batch = 6;
  const KvLayout layout(shape, kv_policy({0, 0, 100}, false));
  Numbers memory(KvStep::host_table_bytes(layout) / 4);
  KvStep step(layout, reinterpret_cast<std::byte*>(memory.data()));
  std::vector<KvPageTable> pages;
  for (std::size_t reach = 0; reach < 2; ++reach) {
    pages.emplace_back(layout, reach).take(0, 70, 70);
  }
  // Tokens 44 to 49 come; those from 37 on are in sight, the second of page 9.
  const KvSequence sequences[] = {{0, 0, 6, 50}};
  offload::KvStagedPages staged(layout);
  step.fill(layout, pages, staged, sequences, 5);
  const KvReachStep& windowed = step.of(layout, 0);
  const KvReachStep& all = step.of(layout, 1);
  EXPECT_EQ(all.homes, (Numbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(windowed.homes, (Numbers{1, 2, 3, 0}));  // 9, 10, 11 and 12 of four in turn
  EXPECT_EQ(windowed.streamed_sequences[0].skipped, 9);
  EXPECT_EQ(all.completed_homes, (Numbers{11}));
  EXPECT_EQ(windowed.completed_homes, (Numbers{3}));
  const kernels::KvBatch batch = windowed.streamed.dense.batch();
  for (std::int32_t page = 0; page < 13; ++page) {
    EXPECT_EQ(batch.pages[page], std::max(page - 9, 0));
  }
}

/// Of a decode step at 65 tokens in pages of 4: 17 pages, or those of the last 12 tokens.
TEST(KvWindow, NothingOutOfSightCrossesTheLink) {
  std::uint64_t moved[2] = {};
  for (const std::int32_t window : {0, 12}) {
    KvShape shape = shape_of({window, window}, 4, 1);
    shape.gpu_batches = 1;
    shape.slots = shape.gpu_batch_size;
    shape.head_dim = 16;
    KvWorkload work{shape, {}, {}};
    for (std::int32_t context = 13; context <= 65; context += 13) {
      KvBatchWork batch{{{0, 0, 13, context, 70}}, {}};
      for (std::int32_t t = 0; t < 13; ++t) batch.rows.push_back({1, context - 13 + t});
      work.passes.push_back({batch});
    }
    work.passes.push_back({{{{0, 0, 1, 66, 70}}, {{1, 65}}}});
    Trace trace(0);
    KvRig rig(kernels::make_cpu_engine({.threads = 1, .trace = &trace}), shape,
              kv_policy({0, 100, 0}, false), nullptr, &trace);
    KvBuffers buffers(work);
    std::size_t offset = 0;
    const std::size_t last = work.passes.size() - 1;
    run_kv_passes(rig, work, KvPrefetch::ahead, 0, last, buffers, offset);
    rig.backend().synchronize(rig.backend().record(Lane::compute));
    const std::uint64_t before = trace.bytes(Activity::host_to_device);
    run_kv_passes(rig, work, KvPrefetch::ahead, last, last + 1, buffers, offset);
    rig.backend().synchronize(rig.backend().record(Lane::compute));
    moved[window == 0 ? 0 : 1] = trace.bytes(Activity::host_to_device) - before;
  }
  const std::uint64_t page = 2U * 2 * 4 * 16 * 4;
  EXPECT_EQ(moved[0] - moved[1], 2 * (17 - 4) * page);  // tokens 54 to 64 lie in pages 13 to 16
}

TEST(KvWindow, ARuleThatSeesFartherThanTheLayersPagesIsRefused) {
  const KvShape shape = shape_of({8, 0}, 4, 1);
  KvRig rig(make_shuffled_engine(0), shape, kv_policy({100, 0, 0}, false), nullptr);
  const KvSequence sequence{0, 0, 3, 3};
  rig.cache().begin(0, {&sequence, 1}, 0);
  const auto attend = [&rig](std::int32_t layer, std::int32_t window) {
    kernels::AttentionRule rule;
    rule.window = window;
    rig.cache().attend(layer, 0, rig.rows(3, 3), rig.rows(0, 3), rig.rows(1, 3), rig.rows(2, 3),
                       rule);
  };
  EXPECT_THROW(attend(0, 0), Error);
  EXPECT_THROW(attend(0, 9), Error);
  EXPECT_NO_THROW(attend(0, 8));
  EXPECT_NO_THROW(attend(1, 0));
}

TEST(KvWindow, WindowsThatCannotBeAreRefused) {
  KvShape shape = shape_of({8, 0}, 4, 1);
  shape.windows = {8};
  EXPECT_THROW(KvLayout(shape, Policy{}), ConfigError);
  shape.windows = {8, -1};
  EXPECT_THROW(KvLayout(shape, Policy{}), ConfigError);
}

TEST(KvWindow, ABoundedCacheIsSmaller) {
  for (const Shares& shares : kShares) {
    std::uint64_t bytes[2] = {};
    for (const std::int32_t window : {0, 20}) {
      offload::MemoryPlan plan;
      offload::KvCache::plan(shape_of({0, window}, 4, 1), kv_policy(shares, false), plan);
      bytes[window == 0 ? 0 : 1] = cache_bytes(plan);
    }
    EXPECT_LT(bytes[1], bytes[0]);
  }
}

}  // namespace
}  // namespace sluice::support
