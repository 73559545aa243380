#include "stage/page_ledger.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <ranges>
#include <utility>

namespace sluice::stage {

PageLedger::PageLedger(const std::vector<CacheRoom>& rooms, std::int32_t slots)
    : sequences_(static_cast<std::size_t>(slots)) {
  for (const CacheRoom& room : rooms) {
    stages_.push_back({room, room.pages, {}, {}, offload::cache_tiers(room.shares, slots)});
    page_tokens_ = std::max(page_tokens_, room.page_tokens);
    long_after_ = std::min(long_after_, room.long_after);
  }
  find_homes(slots);
  const auto shares = [this](const CacheRoom& room) {
    return room.shares_prefixes && room.page_tokens == page_tokens_;
  };
  if (rooms.empty() || !std::ranges::all_of(rooms, shares)) return;
  const auto pages_of = [](const CacheRoom& room) {
    return std::accumulate(room.pages.begin(), room.pages.end(), 0);
  };
  prefix_pages_ = std::ranges::min(rooms | std::views::transform(pages_of));
}

void PageLedger::find_homes(std::int32_t slots) {
  std::map<std::vector<offload::Tier>, std::int32_t> numbers;
  for (std::int32_t slot = 0; slot < slots; ++slot) {
    std::vector<offload::Tier> homes;
    for (const StagePages& stage : stages_) homes.push_back(stage.tier_of(slot));
    const auto next = static_cast<std::int32_t>(numbers.size());
    const auto [found, is_new] = numbers.try_emplace(std::move(homes), next);
    if (is_new) first_of_homes_.push_back(slot);
    homes_of_.push_back(found->second);
  }
}

bool PageLedger::start(std::int32_t slot, std::int32_t tokens, std::int32_t most,
                       std::int32_t shared) {
  if (stages_.empty()) return true;
  const bool fits = std::ranges::all_of(stages_, [&](const StagePages& stage) {
    const std::size_t pool = stage.pool_of(slot);
    return stage.room.pages_for(most) <= stage.pages[pool] &&
           stage.room.pages_for(tokens) - shared + stage.grow[pool] <= stage.free_for(slot);
  });
  if (fits) set(slot, {tokens, most, shared});
  return fits;
}

bool PageLedger::grow(std::int32_t slot, std::int32_t tokens) {
  if (stages_.empty() || tokens <= of(slot).tokens) return true;
  const bool fits = std::ranges::all_of(stages_, [&](const StagePages& stage) {
    return lacks(stage, slot, tokens) <= stage.free_for(slot);
  });
  if (fits) set(slot, {tokens, of(slot).most, of(slot).shared});
  return fits;
}

bool PageLedger::grow_for_guesses(std::int32_t slot, std::int32_t known, std::int32_t guesses) {
  const std::int32_t tokens = known + guesses;
  const bool may = std::ranges::all_of(stages_, [&](const StagePages& stage) {
    const std::int32_t lacking = lacks(stage, slot, tokens);
    const std::int32_t page = stage.room.page_tokens;
    const bool fills_page = tokens / page != known / page;
    return (lacking <= 0 || lacking + stage.grow[stage.pool_of(slot)] <= stage.free_for(slot)) &&
           !(fills_page && stage.tier_of(slot) == offload::Tier::disk);
  });
  return may && grow(slot, tokens);
}

void PageLedger::release(std::int32_t slot) {
  if (!stages_.empty()) set(slot, {});
}

void PageLedger::set(std::int32_t slot, Sequence sequence) {
  const Sequence before = std::exchange(of(slot), sequence);
  for (StagePages& stage : stages_) {
    const CacheRoom& room = stage.room;
    const auto grows = [&room](const Sequence& one) {
      return room.pages_for(one.tokens) < room.pages_for(one.most) ? 1 : 0;
    };
    const std::size_t pool = stage.pool_of(slot);
    stage.room.pages[pool] += room.pages_for(before.tokens) - before.shared -
                              room.pages_for(sequence.tokens) + sequence.shared;
    stage.grow[pool] += grows(sequence) - grows(before);
  }
}

void PageLedger::move_page(std::int32_t kind, std::int32_t to_idle, std::int32_t to_free) {
  const std::int32_t slot = first_of_homes_[static_cast<std::size_t>(kind / 2)];
  for (StagePages& stage : stages_) {
    stage.idle[stage.pool_of(slot)] += to_idle;
    stage.room.pages[stage.pool_of(slot)] += to_free;
  }
}

bool PageLedger::is_on_disk(std::int32_t kind) const {
  const std::int32_t slot = first_of_homes_[static_cast<std::size_t>(kind / 2)];
  return std::ranges::any_of(stages_, [slot](const StagePages& stage) {
    return stage.tier_of(slot) == offload::Tier::disk;
  });
}

std::optional<PoolName> PageLedger::overdrawn() const {
  for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
    for (std::size_t tier = 0; tier < offload::kTierCount; ++tier) {
      if (stages_[stage].room.pages[tier] >= 0) continue;
      return PoolName{stage, static_cast<offload::Tier>(tier)};
    }
  }
  return std::nullopt;
}

std::int32_t PageLedger::reserved(std::int32_t slot) const {
  return stages_.empty() ? std::numeric_limits<std::int32_t>::max() : of(slot).tokens;
}

bool PageLedger::can_grow(const std::vector<std::int32_t>& tokens) const {
  return std::all_of(stages_.begin(), stages_.end(), [&](const StagePages& stage) {
    offload::PerTier<std::int32_t> needed = {};
    for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
      const auto number = static_cast<std::int32_t>(slot);
      needed[stage.pool_of(number)] += std::max(lacks(stage, number, tokens[slot]), 0);
    }
    for (std::size_t tier = 0; tier < needed.size(); ++tier) {
      if (needed[tier] > stage.room.pages[tier] + stage.idle[tier]) return false;
    }
    return true;
  });
}

PoolName PageLedger::short_of(std::int32_t slot, std::int32_t tokens) const {
  const auto found = std::find_if(stages_.begin(), stages_.end(), [&](const StagePages& stage) {
    return lacks(stage, slot, tokens) > stage.free_for(slot);
  });
  return {static_cast<std::size_t>(found - stages_.begin()), found->tier_of(slot)};
}

}  // namespace sluice::stage
