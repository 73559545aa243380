// The laws of the KV cache: what attention gives does not depend on where bytes live, on when they
// were fetched, or on the order in which lanes get to their work.
#include "offload/kv_cache.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "kernels/device/error.h"
#include "tests/support/kv_workload.h"
#include "tests/support/shuffled_engine.h"

namespace sluice::testing {
namespace {

using offload::DiskEngine;
using offload::KvShape;
using offload::Policy;
using offload::Shares;
using offload::Tier;

constexpr Shares kShares[] = {{100, 0, 0},  {0, 100, 0},  {0, 0, 100},
                              {50, 20, 30}, {30, 30, 40}, {0, 50, 50}};

KvShape shape_of(std::int32_t gpu_batches, std::int32_t page_tokens, std::int32_t micro_batches) {
  KvShape shape;
  shape.layers = 2;
  shape.gpu_batches = gpu_batches;
  shape.gpu_batch_size = 4;
  shape.slots = micro_batches * gpu_batches * shape.gpu_batch_size;
  shape.tokens_per_slot = 21;
  shape.tokens_per_gpu_batch = 15;
  shape.heads = 3;
  shape.head_dim = 5;
  shape.page_tokens = page_tokens;
  return shape;
}

Policy policy_of(const Shares& shares, bool cpu_cache_compute) {
  Policy policy;
  policy.cache = shares;
  policy.cpu_cache_compute = cpu_cache_compute;
  return policy;
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

class KvCacheLaw : public ::testing::TestWithParam<std::tuple<std::int32_t, std::int32_t>> {
 protected:
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({.allow_io_uring = false});
};

TEST_P(KvCacheLaw, AttentionIsTheSameWhereverSequencesLive) {
  const auto [gpu_batches, page_tokens] = GetParam();
  unsigned order = 0;
  for (const std::int32_t micro_batches : {1, 2}) {
    const KvShape shape = shape_of(gpu_batches, page_tokens, micro_batches);
    const KvWorkload work = make_kv_workload(shape, micro_batches, 14, 7U + order);
    KvRig first(make_shuffled_engine(0), shape, policy_of(kShares[0], false), disk_.get());
    const std::vector<float> wanted = run_kv_workload(first, work, KvPrefetch::never);
    expect_near(wanted, kv_reference(work, 0.5F), 1e-5);
    for (const Shares& shares : kShares) {
      for (const bool cpu : {false, true}) {
        for (const KvPrefetch mode :
             {KvPrefetch::never, KvPrefetch::ahead, KvPrefetch::by_chance}) {
          const Policy policy = policy_of(shares, cpu);
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

INSTANTIATE_TEST_SUITE_P(Shapes, KvCacheLaw,
                         ::testing::Combine(::testing::Values(1, 2, 3),
                                            ::testing::Values(1, 4, 16)));

}  // namespace
}  // namespace sluice::testing
