// What a budget leaves is what the pools get: no page more, none less.
#include "offload/kv/kv_pools.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "offload/kv/kv_layout.h"

namespace sluice::offload {
namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

using Windows = std::vector<std::int32_t>;
const Windows kWindows[] = {{}, {20, 20, 20}, {0, 20, 20}};

KvShape small_shape(const Windows& windows = {}) {
  KvShape shape;
  shape.windows = windows;
  shape.layers = 3;
  shape.slots = 20;
  shape.tokens_per_slot = 100;
  shape.gpu_batches = 2;
  shape.gpu_batch_size = 5;
  shape.tokens_per_gpu_batch = 32;
  shape.query_heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 8;
  return shape;
}

Policy policy_of(const Shares& shares) {
  Policy policy;
  policy.cache = shares;
  return policy;
}

PerTier<std::uint64_t> bytes_of(KvShape shape, const Policy& policy,
                                const PerTier<std::int32_t>& pools) {
  shape.pool_pages = pools;
  MemoryPlan plan;
  KvCache::plan(shape, policy, plan);
  return {plan.total(Tier::device), plan.total(Tier::host), plan.total(Tier::disk)};
}

constexpr Shares kShares[] = {{100, 0, 0}, {0, 100, 0}, {0, 0, 100}, {50, 20, 30}, {0, 50, 50}};

TEST(KvPools, AreWholeWhereTheRoomIsEnough) {
  for (const Windows& windows : kWindows) {
    const KvShape shape = small_shape(windows);
    for (const Shares& shares : kShares) {
      const Policy policy = policy_of(shares);
      const PerTier<std::int32_t> whole = KvLayout(shape, policy).farthest().pool;
      EXPECT_EQ(fit_kv_pools(shape, policy, {kNoLimit, kNoLimit, kNoLimit}), whole);
      EXPECT_EQ(fit_kv_pools(shape, policy, bytes_of(shape, policy, {})), whole);
    }
  }
}

TEST(KvPools, HoldTheUsualSequenceInEverySlotAndTheLongestOnce) {
  for (const Shares& shares : kShares) {
    const Policy policy = policy_of(shares);
    const KvLayout whole(small_shape(), policy);
    KvShape shape = small_shape();
    for (const std::int32_t usual : {1, 10, 33, 100, 1000}) {
      shape.usual_tokens_per_slot = usual;
      const KvLayout layout(shape, policy);
      for (std::size_t tier = 0; tier < kTierCount; ++tier) {
        const std::int32_t slots = layout.slots[tier];
        const std::int32_t wanted = slots * layout.pages_for(std::min(usual, 100));
        EXPECT_EQ(layout.farthest().pool[tier],
                  slots == 0 ? 0 : std::max(wanted, layout.pages_per_slot));
        EXPECT_LE(layout.farthest().pool[tier], whole.farthest().pool[tier]);
      }
      EXPECT_EQ(fit_kv_pools(shape, policy, {kNoLimit, kNoLimit, kNoLimit}),
                layout.farthest().pool);
    }
  }
}

/// That the pools fit into the room, and that a page more in the pool of `tier` would not.
void expect_room_is_filled(const KvShape& shape, const Policy& policy, std::size_t tier,
                           std::uint64_t room_of_tier) {
  const KvReach farthest = KvLayout(shape, policy).farthest();
  PerTier<std::uint64_t> room = {kNoLimit, kNoLimit, kNoLimit};
  room[tier] = room_of_tier;
  PerTier<std::int32_t> pools = fit_kv_pools(shape, policy, room);
  EXPECT_LE(bytes_of(shape, policy, pools)[tier], room[tier]);
  if (pools[tier] == farthest.pool[tier] || pools[tier] == 0) return;
  ++pools[tier];
  const bool own_is_least = pools[tier] == farthest.pages_per_slot + 1;
  EXPECT_TRUE(own_is_least || bytes_of(shape, policy, pools)[tier] > room[tier])
      << "a page more would fit";
}

TEST(KvPools, FillTheRoomThereIs) {
  for (const Windows& windows : kWindows) {
    const KvShape shape = small_shape(windows);
    for (const Shares& shares : kShares) {
      const Policy policy = policy_of(shares);
      const std::int32_t pages = KvLayout(shape, policy).farthest().pages_per_slot;
      const auto all = bytes_of(shape, policy, {});
      const auto least = bytes_of(shape, policy, {pages, pages, pages});
      for (std::size_t tier = 0; tier < kTierCount; ++tier) {
        for (unsigned part = 0; part < 8; ++part) {
          expect_room_is_filled(shape, policy, tier,
                                least[tier] + (all[tier] - least[tier]) * part / 8);
        }
      }
    }
  }
}

TEST(KvPools, StagingOfLowerTiersGivesWayLast) {
  const Policy policy = policy_of({0, 0, 100});
  const KvLayout layout(small_shape(), policy);
  const std::int32_t least = layout.pages_per_slot;
  PerTier<std::uint64_t> room = {kNoLimit, kNoLimit, kNoLimit};
  room[0] = bytes_of(small_shape(), policy, {0, 0, 2 * least})[0];
  EXPECT_EQ(fit_kv_pools(small_shape(), policy, room), (PerTier<std::int32_t>{0, 0, 2 * least}));
}

TEST(KvPools, HoldALongestSequenceEvenWhereThatIsTooMuch) {
  for (const Windows& windows : kWindows) {
    const KvShape shape = small_shape(windows);
    for (const Shares& shares : kShares) {
      const Policy policy = policy_of(shares);
      const KvReach farthest = KvLayout(shape, policy).farthest();
      const PerTier<std::int32_t> pools = fit_kv_pools(shape, policy, {1, 1, 1});
      for (std::size_t tier = 0; tier < kTierCount; ++tier) {
        EXPECT_EQ(pools[tier], farthest.pool[tier] == 0 ? 0 : farthest.pages_per_slot);
      }
    }
  }
}

}  // namespace
}  // namespace sluice::offload
