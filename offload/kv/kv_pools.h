// How many pages each tier's pool gets, when the budget does not hold the longest sequence for
// every slot: what is left of it.
#pragma once

#include <cstdint>

#include "offload/kv/kv_cache.h"

namespace sluice::offload {

/// KvShape::pool_pages for tiers that have `room` bytes each for all of the cache (its staging,
/// too): as many pages as all slots of the tier can use, where they fit; else as many as do, but
/// never less than a sequence of tokens_per_slot needs. Where there is no room even for that, the
/// plan shows it. A tier's own pool shrinks before those of lower tiers, whose staging it holds.
PerTier<std::int32_t> fit_kv_pools(KvShape shape, const Policy& policy,
                                   const PerTier<std::uint64_t>& room);

}  // namespace sluice::offload
