// Which pages each sequence has, in the layers of one reach. A tier's pages are a pool. A sequence
// takes pages as it grows, and gives them back when it ends. Where it keeps fewer than its tokens
// fill, it uses them in turn: page i is page i - count() again.
//
// A full page may be kept as the end of a prefix, which other sequences then begin with. Pages have
// a count of their users, prefixes among them, and are free when the last is gone.
//
// Page numbers depend on the calls alone: the same calls give the same pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "offload/kv/kv_layout.h"

namespace sluice::offload {

class KvPageTable {
 public:
  /// `reach`: of layout.reaches. The layout must outlive it.
  explicit KvPageTable(const KvLayout& layout, std::size_t reach = 0);

  /// Gives a slot the pages that `tokens` tokens need beside those it has, from the pool of its
  /// home tier. `most`: tokens that it may grow to. The pages of a sequence that starts are
  /// neighbours where enough for all of these are free in a row; others then leave the rest to it
  /// while there are free pages elsewhere. Else they are the lowest free ones. Throws Error where
  /// too few are free: the caller must count pages first.
  void take(std::int32_t slot, std::int32_t tokens, std::int32_t most);
  /// Takes all pages of a slot back; it may have none.
  void give_back(std::int32_t slot);

  /// A slot without pages begins with those of a prefix. Throws Error for a prefix that there is
  /// not, or that lies in another tier.
  void share(std::int32_t slot, std::int32_t prefix);
  /// Keeps the slot's pages up to page `page` as prefix `prefix`, which there must not be, until
  /// drop(). Not where pages are used in turn. Prefixes are numbered below most_prefixes(). Throws
  /// Error for pages that are not there.
  void keep(std::int32_t slot, std::int32_t page, std::int32_t prefix);
  void drop(std::int32_t prefix);
  /// The last page of a prefix in this tier. Throws Error for one that there is not.
  std::int32_t last_page(std::int32_t prefix, Tier tier);
  std::int32_t most_prefixes() const { return static_cast<std::int32_t>(prefixes_.size()); }

  /// Pages of a slot.
  std::int32_t count(std::int32_t slot) const { return owners_[index_of(slot)].count; }
  /// Writes the numbers of its pages [first, first + target.size()), each in [0, pool of its tier).
  void list(std::int32_t slot, std::int32_t first, std::span<std::int32_t> target) const;
  std::int32_t free_pages(Tier tier) const { return pool_of(tier).free; }

 private:
  // A slot's pages are a chain through its pool, from the last one back. So the tables grow with
  // the pools, not with the longest sequences of all slots.
  struct Pool {
    std::vector<std::int32_t> previous;  // by page: the one before it in its sequences; -1: none
    std::vector<std::int32_t> users;     // by page
    std::vector<std::int32_t> kept_for;  // by free page: the slot that it is a neighbour of, or -1
    std::int32_t free = 0;
  };
  struct Owner {
    std::int32_t last = -1;
    std::int32_t count = 0;
    std::int32_t next = -1;      // the page that it would like next; -1: it has no run yet
    std::int32_t run_first = 0;  // pages that were kept for it when it started ...
    std::int32_t run_end = 0;    // ... end before this one
  };

  /// The pages up to one.
  struct Prefix {
    Tier tier = Tier::device;
    std::int32_t last = -1;  // -1: there is no such prefix
    std::int32_t count = 0;
  };

  void start_run(std::int32_t slot, std::int32_t pages, std::int32_t wanted);
  std::int32_t next_page(std::int32_t slot) const;
  void end_run(std::int32_t slot);
  void let_go(Pool& pool, std::int32_t page);
  Prefix& prefix_of(std::int32_t prefix, bool is_there);
  static std::size_t index_of(std::int32_t slot) { return static_cast<std::size_t>(slot); }
  const Pool& pool_of(Tier tier) const { return pools_[static_cast<std::size_t>(tier)]; }
  Tier tier_of(std::int32_t slot) const { return layout_.tiers[index_of(slot)]; }

  const KvLayout& layout_;
  const KvReach& reach_;
  PerTier<Pool> pools_;
  std::vector<Owner> owners_;     // by slot
  std::vector<Prefix> prefixes_;  // by number; as many as there are pages
};

/// Calls run(index, count) for every stretch of neighbours in `pages`: pages[index + i] ==
/// pages[index] + i for i < count.
template <typename Run>
void for_each_run(std::span<const std::int32_t> pages, const Run& run) {
  for (std::size_t index = 0; index < pages.size();) {
    std::size_t count = 1;
    while (index + count < pages.size() &&
           pages[index + count] == pages[index] + static_cast<std::int32_t>(count)) {
      ++count;
    }
    run(index, count);
    index += count;
  }
}

}  // namespace sluice::offload
