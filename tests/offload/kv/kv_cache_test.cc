// The laws of the KV cache: what attention gives does not depend on where bytes live, on when they
// were fetched, or on the order in which lanes get to their work.
#include "offload/kv/kv_cache.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/allocation_count.h"
#include "tests/support/kv_workload.h"
#include "tests/support/shuffled_engine.h"

namespace sluice::support {
namespace {

using offload::DiskEngine;
using offload::KvShape;
using offload::Policy;
using offload::Shares;
using offload::Tier;

constexpr Shares kShares[] = {{100, 0, 0},  {0, 100, 0},  {0, 0, 100},
                              {50, 20, 30}, {30, 30, 40}, {0, 50, 50}};

/// Four query heads for each of the three KV heads.
KvShape grouped(KvShape shape) {
  shape.query_heads = 4 * shape.kv_heads;
  return shape;
}

KvShape shape_of(std::int32_t gpu_batches, std::int32_t page_tokens, std::int32_t micro_batches) {
  KvShape shape;
  shape.layers = 2;
  shape.gpu_batches = gpu_batches;
  shape.gpu_batch_size = 4;
  shape.slots = micro_batches * gpu_batches * shape.gpu_batch_size;
  shape.tokens_per_slot = 21;
  shape.tokens_per_gpu_batch = 15;
  shape.query_heads = 3;
  shape.kv_heads = 3;
  shape.head_dim = 5;
  shape.page_tokens = page_tokens;
  return shape;
}

std::string text_of(const Policy& policy, KvPrefetch mode, unsigned seed) {
  return std::to_string(policy.cache.device) + "/" + std::to_string(policy.cache.host) + "/" +
         std::to_string(policy.cache.disk) + " cpu " + std::to_string(policy.cpu_cache_compute) +
         " prefetch " + std::to_string(static_cast<int>(mode)) + " order " + std::to_string(seed);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_near(const std::vector<float>& got, const std::vector<double>& wanted,
                 double tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(got[i]), wanted[i], tolerance) << "at " << i;
  }
}

class KvCacheLaw : public testing::TestWithParam<std::tuple<std::int32_t, std::int32_t>> {
 protected:
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({.allow_io_uring = false});
};

TEST_P(KvCacheLaw, AttentionIsTheSameWhereverSequencesLive) {
  const auto [gpu_batches, page_tokens] = GetParam();
  unsigned order = 0;
  for (const std::int32_t micro_batches : {1, 2}) {
    const KvShape of_all = shape_of(gpu_batches, page_tokens, micro_batches);
    const KvShape shape = micro_batches == 2 ? grouped(of_all) : of_all;
    const KvWorkload work = make_kv_workload(shape, micro_batches, 14, 7U + order);
    KvRig first(make_shuffled_engine(0), shape, kv_policy(kShares[0], false), disk_.get());
    const std::vector<float> wanted = run_kv_workload(first, work, KvPrefetch::never);
    expect_near(wanted, kv_reference(work, 0.5F), 1e-5);
    for (const Shares& shares : kShares) {
      for (const bool cpu : {false, true}) {
        if (cpu && shares.host == 0) continue;  // alike
        for (const KvPrefetch mode :
             {KvPrefetch::never, KvPrefetch::ahead, KvPrefetch::by_chance}) {
          const Policy policy = kv_policy(shares, cpu);
          KvRig rig(make_shuffled_engine(++order), shape, policy, disk_.get());
          ASSERT_TRUE(same_bits(run_kv_workload(rig, work, mode), wanted))
              << text_of(policy, mode, order);
          EXPECT_EQ(rig.device.used(), rig.plan.total(Tier::device));
          EXPECT_EQ(rig.host.used(), rig.plan.total(Tier::host));
          EXPECT_EQ(rig.cache().disk_bytes(), rig.plan.total(Tier::disk));
        }
      }
    }
  }
}

TEST_P(KvCacheLaw, AttentionIsTheSameOnTheCpuEngine) {
  const auto [gpu_batches, page_tokens] = GetParam();
  const KvShape of_all = shape_of(gpu_batches, page_tokens, 2);
  for (const KvShape& shape : {of_all, grouped(of_all)}) {
    const KvWorkload work = make_kv_workload(shape, 2, 14, 99);
    KvRig first(kernels::make_cpu_engine({.threads = 1}), shape, kv_policy(kShares[0], false),
                disk_.get());
    const std::vector<float> wanted = run_kv_workload(first, work, KvPrefetch::never);
    expect_near(wanted, kv_reference(work, 0.5F), 1e-5);
    for (const Shares& shares : kShares) {
      for (const bool cpu : {false, true}) {
        if (cpu && shares.host == 0) continue;  // alike
        const Policy policy = kv_policy(shares, cpu);
        KvRig rig(kernels::make_cpu_engine({.threads = 2}), shape, policy, disk_.get());
        ASSERT_TRUE(same_bits(run_kv_workload(rig, work, KvPrefetch::ahead), wanted))
            << text_of(policy, KvPrefetch::ahead, 0) << ", " << shape.query_heads << " heads";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, KvCacheLaw,
                         testing::Combine(testing::Values(1, 2, 3), testing::Values(1, 4, 16)));

class KvCacheTest : public testing::Test {
 protected:
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({});
};

struct Heads {
  std::int32_t query_heads;
  std::int32_t kv_heads;
  std::int32_t head_dim;
};

TEST_F(KvCacheTest, NarrowCachesAndOddHeadsAreTheSameEverywhere) {
  constexpr float kScale = 0.05F;  // of 80 elements: no softmax that rounding upsets
  for (const Heads heads :
       {Heads{5, 5, 16}, Heads{1, 1, 1}, Heads{2, 2, 80}, Heads{6, 1, 24}, Heads{8, 2, 16}}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
      KvShape shape = shape_of(2, 4, 1);
      shape.query_heads = heads.query_heads;
      shape.kv_heads = heads.kv_heads;
      shape.head_dim = heads.head_dim;
      shape.pool_pages = {13, 13, 13};
      const KvWorkload work = make_kv_workload(shape, 1, 10, 5);
      std::vector<float> wanted;
      for (const Shares& shares : kShares) {
        for (const bool cpu : {false, true}) {
          Policy policy = kv_policy(shares, cpu);
          policy.cache_dtype = dtype;
          KvRig rig(kernels::make_cpu_engine({.threads = 1}), shape, policy, disk_.get());
          const std::vector<float> got = run_kv_workload(rig, work, KvPrefetch::ahead, kScale);
          if (wanted.empty()) wanted = got;
          ASSERT_TRUE(same_bits(got, wanted))
              << name_of(dtype) << " " << text_of(policy, KvPrefetch::ahead, 0);
        }
      }
      // Values lie in [-2, 2]: 4 bits of them are steps of 0.27.
      const double tolerance = dtype == DType::f32   ? 1e-5
                               : dtype == DType::f16 ? 1e-2
                               : dtype == DType::q4  ? 4e-1
                                                     : 1e-1;
      expect_near(wanted, kv_reference(work, kScale), tolerance);
    }
  }
}

// A device that computes in 16 bits: rows travel as they are, and the CPU attends to them.
TEST_F(KvCacheTest, RowsOfSixteenBitsAreTheSameEverywhere) {
  unsigned order = 0;
  for (const DType compute : {DType::f16, DType::bf16}) {
    for (const DType dtype : {DType::f32, compute}) {
      KvShape shape = grouped(shape_of(2, 4, 1));
      shape.compute_dtype = compute;
      const KvWorkload work = make_kv_workload(shape, 1, 12, 9);
      for (const bool shuffled : {false, true}) {
        std::vector<float> wanted;
        for (const Shares& shares : kShares) {
          for (const bool cpu : {false, true}) {
            Policy policy = kv_policy(shares, cpu);
            policy.cache_dtype = dtype;
            KvRig rig(
                shuffled ? make_shuffled_engine(++order) : kernels::make_cpu_engine({.threads = 2}),
                shape, policy, disk_.get());
            const std::vector<float> got = run_kv_workload(rig, work, KvPrefetch::ahead, 0.05F);
            if (wanted.empty()) wanted = got;
            ASSERT_TRUE(same_bits(got, wanted))
                << name_of(compute) << " " << text_of(policy, KvPrefetch::ahead, order);
            EXPECT_EQ(rig.device.used(), rig.plan.total(Tier::device));
            EXPECT_EQ(rig.host.used(), rig.plan.total(Tier::host));
          }
        }
        expect_near(wanted, kv_reference(work, 0.05F), compute == DType::f16 ? 5e-3 : 4e-2);
      }
    }
  }
}

TEST_F(KvCacheTest, RowsOfSixteenBitsTakeHalfTheStagingAndCrossTheLinkAsSuch) {
  for (const bool cpu : {false, true}) {
    std::uint64_t moved[2] = {};
    std::uint64_t staged[2] = {};
    for (const DType compute : {DType::f32, DType::f16}) {
      KvShape shape = shape_of(1, 4, 1);
      shape.query_heads = 8;
      shape.kv_heads = 4;
      shape.head_dim = 16;  // rows of whole lines of 64 bytes
      shape.compute_dtype = compute;
      const KvWorkload work = make_kv_workload(shape, 1, 6, 9);
      const auto i = compute == DType::f32 ? 0 : 1;
      Trace trace(0);
      Policy policy = kv_policy({0, 100, 0}, cpu);
      policy.cache_dtype = DType::f32;
      KvRig rig(kernels::make_cpu_engine({.threads = 1, .trace = &trace}), shape, policy, nullptr,
                &trace);
      run_kv_workload(rig, work, KvPrefetch::ahead);
      moved[i] = trace.bytes(Activity::device_to_host);
      staged[i] = rig.plan.total(Tier::host);
    }
    EXPECT_EQ(moved[0], 2 * moved[1]);
    // Of two sets of keys and values of 15 rows of 64 elements, and of queries and results of 128.
    EXPECT_EQ(staged[0] - staged[1], 2U * (cpu ? 2 * 64 + 2 * 128 : 2 * 64) * 15 * 2);
  }
}

// FlexGen's CPU attention has one workspace for all GPU batches of a block: with different prompts
// all but the last get wrong tokens (pytorch_backend.py,
// TorchDevice.init_attention_compute_workspace).
TEST_F(KvCacheTest, CpuAttentionOfGpuBatchesWithDifferentPromptsDoesNotShareAWorkspace) {
  const KvShape shape = shape_of(3, 4, 1);
  KvWorkload work{shape, {}, {}};
  std::int32_t context = 0;
  for (const std::int32_t count : {6, 1, 1}) {  // prefill, decode, decode
    context += count;
    KvPass pass;
    for (std::int32_t b = 0; b < 3; ++b) {
      KvBatchWork batch;
      for (std::int32_t i = 0; i < 2; ++i) {
        const std::int32_t slot = b * shape.gpu_batch_size + i;
        batch.sequences.push_back({slot, i * count, count, context});
        for (std::int32_t t = 0; t < count; ++t) {
          batch.rows.push_back({static_cast<std::uint64_t>(slot + 1), context - count + t});
        }
      }
      pass.push_back(batch);
    }
    work.passes.push_back(pass);
  }
  for (unsigned order = 0; order < 20; ++order) {
    KvRig rig(make_shuffled_engine(order), shape, kv_policy({0, 100, 0}, true), nullptr);
    expect_near(run_kv_workload(rig, work, KvPrefetch::ahead), kv_reference(work, 0.5F), 1e-5);
  }
}

TEST_F(KvCacheTest, NothingIsAllocatedAfterTheFirstPasses) {
  const KvShape shape = shape_of(2, 4, 1);
  const KvWorkload work = make_kv_workload(shape, 1, 24, 3);
  KvBuffers buffers(work);
  Trace trace(0);
  KvRig rig(kernels::make_cpu_engine({.threads = 1}), shape, kv_policy({30, 30, 40}, false),
            disk_.get(), &trace);
  std::size_t offset = 0;
  const auto drain = [&rig] {
    for (int lane = 0; lane < kLaneCount; ++lane) {
      rig.backend().synchronize(rig.backend().record(static_cast<Lane>(lane)));
    }
  };
  run_kv_passes(rig, work, KvPrefetch::ahead, 0, 6, buffers, offset);
  drain();
  for (std::size_t pass = 6; pass < work.passes.size(); ++pass) {
    const std::int64_t start = allocation_count();
    run_kv_passes(rig, work, KvPrefetch::ahead, pass, pass + 1, buffers, offset);
    drain();
    EXPECT_EQ(allocation_count() - start, 0) << "pass " << pass;
  }
}

// Pools of two sequences' pages for eight slots: pages go from hand to hand in all tiers, in
// pieces.
TEST_F(KvCacheTest, PagesThatManySequencesShareInTurnHoldEachOnesOwn) {
  unsigned order = 0;
  for (const std::int32_t page_tokens : {1, 4}) {
    for (const std::int32_t micro_batches : {1, 2}) {
      KvShape shape = shape_of(2, page_tokens, micro_batches);
      const std::int32_t pages = 2 * ((shape.tokens_per_slot - 1) / page_tokens + 1) + 1;
      shape.pool_pages = {pages, pages, pages};
      const KvWorkload work = make_kv_workload(shape, micro_batches, 40, 30U + order);
      const std::vector<double> reference = kv_reference(work, 0.5F);
      std::vector<float> wanted;
      for (const Shares& shares : kShares) {
        for (const bool cpu : {false, true}) {
          const Policy policy = kv_policy(shares, cpu);
          KvRig rig(make_shuffled_engine(++order), shape, policy, disk_.get());
          const std::vector<float> got = run_kv_workload(rig, work, KvPrefetch::by_chance);
          if (wanted.empty()) wanted = got;
          expect_near(got, reference, 1e-5);
          ASSERT_TRUE(same_bits(got, wanted)) << text_of(policy, KvPrefetch::by_chance, order);
          EXPECT_EQ(rig.device.used(), rig.plan.total(Tier::device));
          EXPECT_EQ(rig.host.used(), rig.plan.total(Tier::host));
          EXPECT_EQ(rig.cache().disk_bytes(), rig.plan.total(Tier::disk));
        }
      }
    }
  }
}

TEST_F(KvCacheTest, ASequenceTakesPagesAsItGrows) {
  KvShape shape = shape_of(1, 4, 1);  // 4 slots of 21 tokens, in pages of 4
  shape.pool_pages = {6, 0, 0};
  KvRig rig(make_shuffled_engine(0), shape, kv_policy({100, 0, 0}, false), nullptr);
  using Sequences = std::vector<offload::KvSequence>;
  const Sequences first = {{0, 0, 3, 3, 21}, {1, 3, 9, 9, 9}};
  rig.cache().begin(0, first, 0);
  EXPECT_EQ(rig.cache().usage().tokens_taken, 16U);
  EXPECT_EQ(rig.cache().usage().tokens_stored, 12U);
  const Sequences longer = {{0, 0, 6, 9, 21}};  // three pages and three: all there are
  rig.cache().begin(0, longer, 1);
  EXPECT_EQ(rig.cache().usage().tokens_taken, 24U);
  const Sequences third = {{2, 0, 1, 1, 1}};
  EXPECT_THROW(rig.cache().begin(0, third, 2), Error) << "no page is left";
  const std::int32_t ended[] = {1};
  rig.cache().forget(ended);
  rig.cache().begin(0, third, 3);
  EXPECT_EQ(rig.cache().usage().tokens_taken, 28U);
  EXPECT_EQ(rig.cache().usage().tokens_stored, 19U);
  const Sequences beyond = {{2, 0, 1, 2, 1}};
  EXPECT_THROW(rig.cache().begin(0, beyond, 4), Error) << "more than it was said to grow to";
  const std::int32_t nobody[] = {4};
  EXPECT_THROW(rig.cache().forget(nobody), Error);
}

TEST_F(KvCacheTest, AnEmptyGpuBatchHasNothingToDo) {
  const KvShape shape = shape_of(1, 4, 1);
  KvRig rig(make_shuffled_engine(3), shape, kv_policy({30, 30, 40}, true), disk_.get());
  rig.cache().begin(0, {}, 0);
  rig.cache().prefetch(0, 0);
  rig.cache().attend(0, 0, rig.rows(3, 0), rig.rows(0, 0), rig.rows(1, 0), rig.rows(2, 0), {1.0F});
  EXPECT_EQ(rig.cache().store(0, 0, rig.rows(1, 0), rig.rows(2, 0)).ticket, 0U);
}

TEST_F(KvCacheTest, SequencesThatCannotBeAreRefused) {
  const KvShape shape = shape_of(1, 4, 1);  // 4 slots of 21 tokens, 15 tokens per GPU batch
  KvRig rig(make_shuffled_engine(0), shape, kv_policy({30, 30, 40}, false), disk_.get());
  using Sequences = std::vector<offload::KvSequence>;
  const std::pair<Sequences, const char*> bad[] = {
      {{{-1, 0, 1, 1}}, "slot -1 does not exist"},
      {{{4, 0, 1, 1}}, "slot 4 does not exist"},
      {{{0, 0, 0, 0}}, "0 new ones"},
      {{{0, 0, 1, 2}}, "slot 0 holds 0 tokens of at most 21; 1 new ones cannot make it 2"},
      {{{0, 0, 22, 22}}, "at most 21"},
      {{{0, 0, 16, 16}}, "at most 15 tokens"},
      {{{0, -1, 1, 1}}, "rows -1"},
      {{{0, 2147483647, 2, 2}}, "at most 15 tokens"},
      {{{0, 0, 1, 1}, {0, 1, 1, 1}}, "slot 0 is twice"},
      {{{0, 0, 8, 8}, {1, 0, 8, 8}}, "at most 15 tokens"},
      {Sequences(5, {0, 0, 1, 1}), "a GPU batch of 5 sequences"}};
  for (const auto& [sequences, text] : bad) {
    try {
      rig.cache().begin(0, sequences, 0);
      ADD_FAILURE() << "not refused: " << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(rig.cache().begin(1, {}, 0), Error);
  EXPECT_THROW(rig.cache().prefetch(0, 0), Error) << "not begun";
  const Sequences good = {{0, 0, 3, 3}};
  rig.cache().begin(0, good, 0);
  EXPECT_THROW(rig.cache().prefetch(2, 0), Error);
  EXPECT_THROW(rig.cache().store(0, 0, rig.rows(1, 2), rig.rows(2, 3)), Error) << "too few rows";
}

TEST_F(KvCacheTest, RowsOfAWrongWidthAreRefusedByName) {
  const KvShape shape = grouped(shape_of(1, 4, 1));
  KvRig rig(make_shuffled_engine(0), shape, kv_policy({100, 0, 0}, false), nullptr);
  const std::vector<offload::KvSequence> sequences = {{0, 0, 3, 3}};
  rig.cache().begin(0, sequences, 0);
  const TensorView query = rig.rows(0, 3);
  const TensorView keys = rig.rows(1, 3);
  const auto refusal = [&](const TensorView& out, const TensorView& q, const TensorView& k,
                           const TensorView& v) -> std::string {
    try {
      rig.cache().attend(0, 0, out, q, k, v, {1.0F});
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing was refused";
  };
  EXPECT_NE(refusal(keys, query, keys, keys).find("out is f32 [3, 15]"), std::string::npos);
  EXPECT_NE(refusal(query, keys, keys, keys).find("query is f32 [3, 15]"), std::string::npos);
  EXPECT_NE(refusal(query, query, query, keys).find("keys is f32 [3, 60]"), std::string::npos);
  EXPECT_NE(refusal(query, query, keys, query).find("at least 3 rows of 3 heads x 5"),
            std::string::npos);
}

TEST_F(KvCacheTest, FetchingFurtherThanOneStepAheadIsRefused) {
  const KvShape shape = shape_of(3, 4, 1);
  KvRig rig(make_shuffled_engine(0), shape, kv_policy({0, 100, 0}, false), nullptr);
  for (std::int32_t b = 0; b < 3; ++b) {
    const offload::KvSequence sequence{b * 4, 0, 3, 3};
    rig.cache().begin(b, {&sequence, 1}, 0);
  }
  rig.cache().prefetch(0, 0);
  rig.cache().prefetch(0, 1);
  rig.cache().prefetch(0, 1);  // again: nothing to do
  EXPECT_THROW(rig.cache().prefetch(0, 2), Error);
}

}  // namespace
}  // namespace sluice::support
