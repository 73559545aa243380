// What the KV cache needs of each tier, on paper (KvCache::plan) and taken.
#pragma once

#include "offload/kv/kv_layout.h"
#include "offload/memory_plan.h"

namespace sluice::offload {

/// Takes what KvCache::plan() reserved, of kControl from `control`. The arenas must outlive it.
KvMemory take_memory(const KvLayout& layout, Arena& device, Arena& host, Arena& control);

}  // namespace sluice::offload
