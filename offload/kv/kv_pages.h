// Which pages each sequence has. A tier's pages are a pool: a sequence is handed what it can need
// at most when it starts, and gives it back when it ends, so that a short sequence does not keep
// the memory of a long one.
//
// Page numbers are a function of the calls alone. Whoever makes the same calls gets the same pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "offload/kv/kv_layout.h"

namespace sluice::offload {

class KvPageTable {
 public:
  explicit KvPageTable(const KvLayout& layout);

  /// Hands a slot that has none the pages of a sequence of at most `tokens` tokens, from the pool
  /// of its home tier: neighbours where there are so many in a row, else the lowest free ones.
  /// Throws Error where too few are free: whoever starts sequences counts pages.
  void take(std::int32_t slot, std::int32_t tokens);
  /// Takes all pages of a slot back; it may have none.
  void give_back(std::int32_t slot);

  /// Pages of a slot.
  std::int32_t count(std::int32_t slot) const { return owners_[index_of(slot)].count; }
  /// Writes the numbers of its pages [first, first + target.size()), each in [0, pool of its tier).
  void list(std::int32_t slot, std::int32_t first, std::span<std::int32_t> target) const;
  std::int32_t free_pages(Tier tier) const { return pool_of(tier).free; }

 private:
  // A slot's pages are a chain through its pool, so that the tables are as large as the pools are,
  // not as all slots' longest sequences would be.
  struct Pool {
    std::vector<std::int32_t> next;  // by page
    std::vector<char> used;          // by page
    std::int32_t free = 0;
  };
  struct Owner {
    std::int32_t first = -1;
    std::int32_t count = 0;
  };

  static std::size_t index_of(std::int32_t slot) { return static_cast<std::size_t>(slot); }
  const Pool& pool_of(Tier tier) const { return pools_[static_cast<std::size_t>(tier)]; }
  Tier tier_of(std::int32_t slot) const { return layout_.tiers[index_of(slot)]; }

  const KvLayout& layout_;
  PerTier<Pool> pools_;
  std::vector<Owner> owners_;  // by slot
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
