#include "stage/page_ledger.h"

#include <algorithm>

namespace sluice::stage {

PageLedger::PageLedger(const std::vector<CacheRoom>& rooms, std::int32_t slots)
    : tokens_(static_cast<std::size_t>(slots), 0) {
  for (const CacheRoom& room : rooms) {
    stages_.push_back({room, offload::cache_tiers(room.shares, slots)});
  }
}

bool PageLedger::reserve(std::int32_t slot, std::int32_t tokens) {
  const bool fits = std::all_of(stages_.begin(), stages_.end(), [&](StagePages& stage) {
    return stage.room.pages_for(tokens) <= stage.free_for(slot);
  });
  if (!fits || stages_.empty()) return fits;
  for (StagePages& stage : stages_) stage.free_for(slot) -= stage.room.pages_for(tokens);
  tokens_[static_cast<std::size_t>(slot)] = tokens;
  return true;
}

void PageLedger::release(std::int32_t slot) {
  if (stages_.empty()) return;
  std::int32_t& tokens = tokens_[static_cast<std::size_t>(slot)];
  if (tokens == 0) return;
  for (StagePages& stage : stages_) stage.free_for(slot) += stage.room.pages_for(tokens);
  tokens = 0;
}

}  // namespace sluice::stage
