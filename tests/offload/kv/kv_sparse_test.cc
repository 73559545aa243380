// Sparse attention over the KV cache: the tokens of a prompt take all values, later ones few, the
// same bits wherever sequences live and however their tokens are cut into passes.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/kv_workload.h"
#include "tests/support/shuffled_engine.h"

namespace sluice::support {
namespace {

using offload::DiskEngine;
using offload::KvShape;
using offload::Policy;
using offload::Shares;
using offload::Tier;

constexpr Shares kShares[] = {{100, 0, 0}, {0, 100, 0}, {0, 0, 100}, {30, 30, 40}};

KvShape shape_of(std::int32_t group, std::int32_t page_tokens) {
  KvShape shape;
  shape.layers = 2;
  shape.gpu_batches = 2;
  shape.gpu_batch_size = 4;
  shape.slots = 16;
  shape.tokens_per_slot = 40;
  shape.tokens_per_gpu_batch = 19;
  shape.query_heads = 3 * group;
  shape.kv_heads = 3;
  shape.head_dim = 5;
  shape.page_tokens = page_tokens;
  if (page_tokens == 4) shape.windows = {0, 13};
  return shape;
}

Policy policy_of(const Shares& shares, bool cpu_cache_compute, double sparsity) {
  Policy policy = kv_policy(shares, cpu_cache_compute);
  policy.attn_sparsity = sparsity;
  return policy;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class KvSparseTest : public testing::TestWithParam<int> {
 protected:
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({.allow_io_uring = false});
};

TEST_P(KvSparseTest, AttentionIsTheSameWhereverSequencesLive) {
  constexpr double kSparsity = 0.3;
  const std::int32_t page_tokens = GetParam();
  unsigned order = 40;
  for (const std::int32_t group : {1, 4}) {
    const KvShape shape = shape_of(group, page_tokens);
    KvWorkload work = make_kv_workload(shape, 2, 20, 31U + order);
    const Policy on_device = policy_of(kShares[0], false, kSparsity);
    work.kept_millionths = on_device.kept_millionths();
    EXPECT_EQ(work.kept_millionths, 300'000);
    KvRig first(kernels::make_cpu_engine({.threads = 1}), shape, on_device, disk_.get());
    const std::vector<float> wanted = run_kv_workload(first, work, KvPrefetch::never);
    const std::vector<double> reference = kv_reference(work, 0.5F);
    ASSERT_EQ(wanted.size(), reference.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(wanted[i]), reference[i], 1e-5) << "at " << i;
    }
    KvRig shuffled(make_shuffled_engine(0), shape, on_device, disk_.get());
    const std::vector<float> by_double = run_kv_workload(shuffled, work, KvPrefetch::never);
    for (const Shares& shares : kShares) {
      for (const bool cpu : {false, true}) {
        if (cpu && shares.host == 0) continue;  // alike
        for (const KvPrefetch mode : {KvPrefetch::ahead, KvPrefetch::by_chance}) {
          const Policy policy = policy_of(shares, cpu, kSparsity);
          const bool real = mode == KvPrefetch::ahead;
          kernels::Engine engine =
              real ? kernels::make_cpu_engine({.threads = 2}) : make_shuffled_engine(++order);
          KvRig rig(std::move(engine), shape, policy, disk_.get());
          ASSERT_TRUE(same_bits(run_kv_workload(rig, work, mode), real ? wanted : by_double))
              << shares.device << "/" << shares.host << "/" << shares.disk << " cpu " << cpu
              << " order " << order;
          EXPECT_EQ(rig.device.used(), rig.plan.total(Tier::device));
          EXPECT_EQ(rig.host.used(), rig.plan.total(Tier::host));
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(PageTokens, KvSparseTest, testing::Values(1, 4, 16));

TEST(KvSparseShapeTest, AllOfTheValuesAreDenseAttention) {
  const KvShape shape = shape_of(1, 16);
  const KvWorkload work = make_kv_workload(shape, 2, 12, 5);
  KvRig dense(kernels::make_cpu_engine({.threads = 1}), shape, kv_policy({50, 50, 0}, true),
              nullptr);
  KvRig all(kernels::make_cpu_engine({.threads = 1}), shape, policy_of({50, 50, 0}, true, 1.0),
            nullptr);
  EXPECT_TRUE(same_bits(run_kv_workload(dense, work, KvPrefetch::ahead),
                        run_kv_workload(all, work, KvPrefetch::ahead)));
}

TEST(KvSparseShapeTest, RefusesWhatSparseAttentionCannotDo) {
  Policy policy = policy_of({100, 0, 0}, false, 0.5);
  policy.cache_dtype = DType::q4;
  EXPECT_THROW(offload::KvLayout(shape_of(1, 16), policy), ConfigError);
  EXPECT_NE(policy.problems().find("policy.attn_sparsity: cannot be below 1 with a compressed"),
            std::string::npos);
  policy.attn_sparsity = 1.0;
  EXPECT_EQ(policy.problems(), "");
  EXPECT_NO_THROW(offload::KvLayout(shape_of(1, 16), policy));
  for (const double wrong : {0.0, -0.1, 1.1}) {
    policy.attn_sparsity = wrong;
    EXPECT_NE(policy.problems().find("policy.attn_sparsity"), std::string::npos) << wrong;
  }
  KvShape shape = shape_of(1, 16);
  shape.tokens_per_slot = 1'000'000;
  EXPECT_THROW(offload::KvLayout(shape, policy_of({100, 0, 0}, false, 0.5)), ConfigError);
  EXPECT_NO_THROW(offload::KvLayout(shape, policy_of({100, 0, 0}, false, 1.0)));
}

}  // namespace
}  // namespace sluice::support
