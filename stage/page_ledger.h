// How many pages are left in each pool of each stage's KV cache. The head starts a request only if
// no stage can run out of pages before the request ends.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "offload/policy.h"
#include "offload/tier.h"

namespace sluice::stage {

/// The cache of one stage, as every stage tells the head before a run. Stages may differ in shares,
/// in pools and in the windows of their layers. Pages are those of a layer that sees farthest:
/// layers that see less have enough where that one has (offload::KvLayout::reaches).
struct CacheRoom {
  offload::Shares shares;
  std::int32_t page_tokens = 1;
  offload::PerTier<std::int32_t> pages = {};  // of each tier's pool
  /// Most that a sequence keeps, however long it is.
  std::int32_t pages_per_slot = std::numeric_limits<std::int32_t>::max();

  std::int32_t pages_for(std::int32_t tokens) const {
    return std::min((tokens - 1) / page_tokens + 1, pages_per_slot);
  }
  static auto fields(auto& self) {
    return std::tie(self.shares.device, self.shares.host, self.shares.disk, self.page_tokens,
                    self.pages, self.pages_per_slot);
  }
};

class PageLedger {
 public:
  /// No stage has a limit.
  PageLedger() = default;
  PageLedger(const std::vector<CacheRoom>& rooms, std::int32_t slots);

  /// Sets aside, on every stage, the pages of a sequence of at most `tokens` tokens, if all stages
  /// have them in the home tier that `slot` has there. The slot must have none.
  bool reserve(std::int32_t slot, std::int32_t tokens);
  void release(std::int32_t slot);

 private:
  struct StagePages {
    CacheRoom room;                    // its pages: those that are free
    std::vector<offload::Tier> tiers;  // by slot
    std::int32_t& free_for(std::int32_t slot) {
      return room.pages[static_cast<std::size_t>(tiers[static_cast<std::size_t>(slot)])];
    }
  };

  std::vector<StagePages> stages_;
  std::vector<std::int32_t> tokens_;  // by slot: reserved; 0: none
};

}  // namespace sluice::stage
