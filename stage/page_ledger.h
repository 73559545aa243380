// How many pages are left in each pool of each stage's KV cache. The head gives a sequence a page
// only if all stages have one; so no stage runs out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
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
  bool shares_prefixes = false;  // sequences may begin with the same pages
  /// Sequences that may become longer than this have other keys: they share with their like only.
  std::int32_t long_after = std::numeric_limits<std::int32_t>::max();

  std::int32_t pages_for(std::int32_t tokens) const {
    return tokens < 1 ? 0 : std::min((tokens - 1) / page_tokens + 1, pages_per_slot);
  }
  static auto fields(auto& self) {
    return std::tie(self.shares.device, self.shares.host, self.shares.disk, self.page_tokens,
                    self.pages, self.pages_per_slot, self.shares_prefixes, self.long_after);
  }
};

/// One pool of one stage.
struct PoolName {
  std::size_t stage = 0;
  offload::Tier tier = offload::Tier::device;
};

class PageLedger {
 public:
  /// No stage has a limit.
  PageLedger() = default;
  PageLedger(const std::vector<CacheRoom>& rooms, std::int32_t slots);

  /// Sets aside, on every stage, the pages of a sequence that starts with `tokens` tokens and may
  /// grow to `most`, but for its first `shared` pages, which are a prefix. False: some stage lacks
  /// them in the home tier that `slot` has there, or would not have one page more for each sequence
  /// there that grows, or has not enough for `most` in all. The slot must have none.
  ///
  /// Idle pages of prefixes count as free. So evict() is to be called afterwards, and after grow(),
  /// while overdrawn() names a pool.
  bool start(std::int32_t slot, std::int32_t tokens, std::int32_t most, std::int32_t shared = 0);
  /// Sets aside what the slot's sequence needs beside the pages that it has to grow to so many
  /// tokens, if all stages have that.
  bool grow(std::int32_t slot, std::int32_t tokens);
  /// As grow() for `known` tokens of a sequence and guesses behind them, but false also where that
  /// would take the page that another sequence there grows into, and on disk where a guess would
  /// fill its page: a page that is full goes to the file, and does not come back.
  bool grow_for_guesses(std::int32_t slot, std::int32_t known, std::int32_t guesses);
  /// Takes back what is the sequence's own.
  void release(std::int32_t slot);
  /// Tokens that the slot has pages for.
  std::int32_t reserved(std::int32_t slot) const;

  /// A pool that has too few pages for grow(slot, tokens). Pre: grow() said no.
  PoolName short_of(std::int32_t slot, std::int32_t tokens) const;
  bool is_in(PoolName pool, std::int32_t slot) const {
    return stages_[pool.stage].tier_of(slot) == pool.tier;
  }
  /// Whether all slots at once can grow to so many tokens, by slot.
  bool can_grow(const std::vector<std::int32_t>& tokens) const;
  /// Of the largest page of all stages; 0: no stage has a limit.
  std::int32_t page_tokens() const { return page_tokens_; }

  // Prefixes, of which each page takes one on every stage:

  /// Pages of prefixes that there can be; 0: sequences share none.
  std::int32_t prefix_pages() const { return prefix_pages_; }
  /// Which prefixes a sequence may begin with that may grow to `most` tokens in this slot. Below
  /// kinds().
  std::int32_t kind_of(std::int32_t slot, std::int32_t most) const {
    if (prefix_pages_ == 0) return 0;
    return 2 * homes_of_[static_cast<std::size_t>(slot)] + (most > long_after_ ? 1 : 0);
  }
  std::size_t kinds() const { return 2 * first_of_homes_.size(); }
  /// The next page of the slot that is its own becomes a prefix's.
  void give(std::int32_t slot) { ++of(slot).shared; }
  /// A page of a prefix of this kind has no user any more; has one again; is dropped, being idle.
  void set_idle(std::int32_t kind) { move_page(kind, 1, 0); }
  void set_used(std::int32_t kind) { move_page(kind, -1, 0); }
  void drop_idle(std::int32_t kind) { move_page(kind, -1, 1); }
  /// A pool that has given more pages than are free. Idle ones of it must go.
  std::optional<PoolName> overdrawn() const;
  /// Whether some stage keeps sequences of this kind on disk.
  bool is_on_disk(std::int32_t kind) const;
  /// Whether prefixes of this kind lie in the pool.
  bool lies_in(PoolName pool, std::int32_t kind) const {
    return is_in(pool, first_of_homes_[static_cast<std::size_t>(kind / 2)]);
  }

 private:
  struct StagePages {
    CacheRoom room;                             // its pages: those that are free
    offload::PerTier<std::int32_t> pages = {};  // ... of all
    offload::PerTier<std::int32_t> grow = {};   // slots that may take more
    offload::PerTier<std::int32_t> idle = {};   // pages of prefixes without users
    std::vector<offload::Tier> tiers;           // by slot

    offload::Tier tier_of(std::int32_t slot) const { return tiers[static_cast<std::size_t>(slot)]; }
    std::size_t pool_of(std::int32_t slot) const { return static_cast<std::size_t>(tier_of(slot)); }
    std::int32_t free_for(std::int32_t slot) const {
      return room.pages[pool_of(slot)] + idle[pool_of(slot)];
    }
  };

  /// A slot's sequence.
  struct Sequence {
    std::int32_t tokens = 0;  // that it has pages for; 0: none
    std::int32_t most = 0;    // that it may grow to
    std::int32_t shared = 0;  // of its pages, those that are a prefix's
  };
  Sequence& of(std::int32_t slot) { return sequences_[static_cast<std::size_t>(slot)]; }
  const Sequence& of(std::int32_t slot) const { return sequences_[static_cast<std::size_t>(slot)]; }

  /// Pages of a stage that the slot lacks for so many tokens.
  std::int32_t lacks(const StagePages& stage, std::int32_t slot, std::int32_t tokens) const {
    return stage.room.pages_for(tokens) - stage.room.pages_for(of(slot).tokens);
  }
  void set(std::int32_t slot, Sequence sequence);
  void move_page(std::int32_t kind, std::int32_t to_idle, std::int32_t to_free);
  void find_homes(std::int32_t slots);

  std::vector<StagePages> stages_;
  std::vector<Sequence> sequences_;           // by slot
  std::vector<std::int32_t> homes_of_;        // by slot: slots at home in the same tiers are alike
  std::vector<std::int32_t> first_of_homes_;  // ... a slot of each sort
  std::int32_t page_tokens_ = 0;
  std::int32_t prefix_pages_ = 0;
  std::int32_t long_after_ = std::numeric_limits<std::int32_t>::max();
};

}  // namespace sluice::stage
