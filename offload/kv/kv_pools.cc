#include "offload/kv/kv_pools.h"

#include <algorithm>

#include "offload/kv/kv_layout.h"

namespace sluice::offload {

namespace {

/// Finds the largest pools that fit. The bytes of every tier grow with the pages of every pool.
class PoolFit {
 public:
  PoolFit(const KvShape& shape, const Policy& policy, const PerTier<std::uint64_t>& room)
      : shape_(shape), policy_(policy), room_(room) {
    const KvLayout layout(shape, policy);
    shape_.pool_pages = layout.farthest().pool;
    least_ = layout.farthest().pages_per_slot;
  }

  bool fits(Tier tier) const {
    MemoryPlan plan;
    KvCache::plan(shape_, policy_, plan);
    return plan.total(tier) <= room_[static_cast<std::size_t>(tier)];
  }
  /// Takes pages from the pool until `tier` fits, or none can be taken any more.
  void shrink(std::size_t pool, Tier tier) {
    std::int32_t& pages = shape_.pool_pages[pool];
    std::int32_t too_many = pages;
    if (too_many <= least_) return;
    pages = least_;
    if (!fits(tier)) return;
    std::int32_t enough = least_;
    while (too_many - enough > 1) {
      pages = enough + (too_many - enough) / 2;
      (fits(tier) ? enough : too_many) = pages;
    }
    pages = enough;
  }
  const PerTier<std::int32_t>& pools() const { return shape_.pool_pages; }

 private:
  KvShape shape_;
  const Policy& policy_;
  const PerTier<std::uint64_t>& room_;
  std::int32_t least_ = 0;
};

}  // namespace

PerTier<std::int32_t> fit_kv_pools(KvShape shape, const Policy& policy,
                                   const PerTier<std::uint64_t>& room) {
  shape.pool_pages = {};
  PoolFit fit(shape, policy, room);
  // Begin with the lowest tier: a tier holds staging for lower tiers, never for higher ones.
  for (const Tier tier : {Tier::disk, Tier::host, Tier::device}) {
    for (auto pool = static_cast<std::size_t>(tier); pool < kTierCount && !fit.fits(tier); ++pool) {
      fit.shrink(pool, tier);
    }
  }
  return fit.pools();
}

}  // namespace sluice::offload
