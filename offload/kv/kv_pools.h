// How many pages each tier's pool gets where the budget does not hold the longest sequence for
// every slot.
#pragma once

#include <cstdint>

#include "offload/kv/kv_cache.h"

namespace sluice::offload {

/// KvShape::pool_pages for tiers with `room` bytes each for the cache and its staging. A pool has
/// the pages that all slots of the tier can use; where these do not fit, as many as do. It never
/// has fewer than a sequence of tokens_per_slot needs; where even these do not fit, the plan shows
/// it. A tier's own pool shrinks before the pools of lower tiers, whose staging it holds.
PerTier<std::int32_t> fit_kv_pools(KvShape shape, const Policy& policy,
                                   const PerTier<std::uint64_t>& room);

}  // namespace sluice::offload
