// Where every page of every sequence lies, and what each memory of the cache is made of: arithmetic
// over a shape and a policy, without a device.
//
// A page number stands for one page of every layer of one reach; which sequence has which is
// KvPageTable's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/ops.h"
#include "offload/kv/kv_cache.h"
#include "offload/memory_plan.h"
#include "offload/policy.h"

namespace sluice::offload {

/// Carves regions out of one block; over a null base it measures what the block must have.
class KvCarver {
 public:
  explicit KvCarver(std::byte* base) : base_(base) {}
  /// A region of `count` x `bytes`, on a multiple of `alignment` (<= 4096; the block itself may
  /// start on any multiple of 64). Throws CapacityError where the size does not fit 63 bits.
  std::byte* take(std::uint64_t count, std::uint64_t bytes, std::uint64_t alignment = 64);
  std::uint64_t used() const { return used_; }

 private:
  std::byte* base_;
  std::uint64_t used_ = 0;
};

/// The first page of a sequence that a layer of this window (0: none) may read in a pass before
/// which the sequence has `history` tokens. Windows smaller than a page are taken for a page, so
/// that every layer has pages of the history to fetch, and full ones to read, in the same passes.
std::int32_t first_page_in_sight(std::int32_t history, std::int32_t window,
                                 std::int32_t page_tokens);

/// Layers that see equally far. They share page numbers.
struct KvReach {
  std::int32_t window = 0;            // keys that a query sees at most; 0: all
  std::int32_t layers = 0;            // how many they are
  std::int32_t pages_per_slot = 0;    // most that a sequence keeps
  PerTier<std::int32_t> pool = {};    // pages of a layer
  PerTier<std::int64_t> before = {};  // pages of other reaches that lie before theirs
};

class KvLayout {
 public:
  /// Throws ConfigError for a shape that cannot be, CapacityError for one that cannot be counted.
  KvLayout(const KvShape& shape, const Policy& policy);

  KvShape shape;
  DType cache_dtype = DType::f32;
  std::int32_t kept_millionths = 0;  // as Policy has it
  bool host_attends = false;         // host sequences are attended by the CPU
  std::vector<Tier> tiers;           // by slot
  std::vector<std::int32_t> places;  // by slot: its number among the slots of its tier
  PerTier<std::int32_t> slots = {};  // how many slots each tier is home to
  std::int32_t pages_per_slot = 0;   // of the longest sequence, kept or not
  /// Layers that see all come first, where there are any, then those with a window. No sequence
  /// finds too few pages in a later reach for which the first one has enough.
  std::vector<KvReach> reaches;
  std::size_t page_bytes = 0;           // in memory
  std::size_t file_page_bytes = 0;      // in the file and its staging: a multiple of 4096
  std::size_t query_row_bytes = 0;      // of query, out
  std::size_t kv_row_bytes = 0;         // of keys, values
  std::int32_t streamed_sequences = 0;  // most of one GPU batch
  std::int32_t streamed_pages = 0;      // ... and of a layer of them
  std::int32_t disk_sequences = 0;      // most of one GPU batch
  std::int32_t disk_pages = 0;          // ... and of a layer of them
  std::int32_t completed_pages = 0;     // most pages of disk sequences filled by one GPU batch

  std::int32_t slots_in(Tier tier) const { return slots[static_cast<std::size_t>(tier)]; }
  const KvReach& farthest() const { return reaches.front(); }
  /// Whether sequences may have pages in common: not those that are used in turn; nor where keys
  /// depend on where a sequence's prompt ends, as what sees few values has other ones.
  bool shares_prefixes() const {
    return reaches.size() == 1 && farthest().window == 0 && kept_millionths == 0;
  }
  /// Of all tiers' pools, of a layer: most that there can be of prefixes; 0 where none is shared.
  std::int32_t most_prefixes() const;
  std::int32_t pool_of(Tier tier) const { return farthest().pool[static_cast<std::size_t>(tier)]; }
  std::int64_t pages_in(Tier tier) const;  // of all layers
  /// Ways to attend, each with tables of its own: to all values and, where attention is sparse, to
  /// few.
  /// Of sequences of the host that are streamed, and have new tokens of their answer only, keys are
  /// fetched; sparse attention reads their few values in host memory, which must be pinned.
  bool fetches_keys_only = false;
  std::size_t ways() const { return kept_millionths > 0 ? 2 : 1; }
  bool uses_rows() const { return slots_in(Tier::host) + slots_in(Tier::disk) > 0; }
  std::int32_t pages_for(std::int32_t tokens) const { return (tokens - 1) / shape.page_tokens + 1; }

  std::size_t reach_of(std::int32_t layer) const {
    return places_in_reach_.empty() ? 0 : places_in_reach_[static_cast<std::size_t>(layer)].first;
  }
  /// That a sequence may grow to.
  std::int32_t most_tokens(const KvSequence& sequence) const {
    return sequence.total == 0 ? shape.tokens_per_slot : sequence.total;
  }

  /// A page in its tier's [reach][layer of it][page].
  std::int64_t page_index(std::int32_t layer, std::int32_t page, Tier tier) const;
  /// Offset in the file, which is in that order: neighbours of a sequence are one request.
  std::uint64_t file_offset(std::int32_t layer, std::int32_t page) const {
    return static_cast<std::uint64_t>(page_index(layer, page, Tier::disk)) * file_page_bytes;
  }
  std::uint64_t file_bytes() const {
    return static_cast<std::uint64_t>(pages_in(Tier::disk)) * file_page_bytes;
  }
  kernels::KvPages pages_at(std::byte* base, std::size_t stride_bytes) const;

 private:
  void check_shape(const Policy& policy) const;
  void place_slots(const Shares& shares);
  void find_reaches();
  void size_pools();
  void count_pages();
  void measure();

  /// By layer: its reach, and its number among the layers of it. Empty: all are of one reach.
  std::vector<std::pair<std::size_t, std::int32_t>> places_in_reach_;
};

/// The regions of the blocks. Over null blocks: their sizes.
struct KvMemory {
  struct Blocks {
    std::byte* device_cache = nullptr;
    std::byte* host_cache = nullptr;
    std::byte* device_staging = nullptr;
    std::byte* host_staging = nullptr;
    std::byte* control = nullptr;
  };
  KvMemory(const KvLayout& layout, const Blocks& blocks);

  // device "KV cache"
  std::byte* device_pages = nullptr;  // [layer][page] of page_bytes
  // host "KV cache"
  std::byte* host_pages = nullptr;  // [layer][page] of page_bytes
  std::byte* host_tails = nullptr;  // [layer][place]: the partial pages of disk sequences
  // device "KV staging"
  std::byte* device_ring[2] = {};      // [streamed_pages] of page_bytes
  std::byte* device_tables = nullptr;  // [GPU batch] of device_table_bytes()
  // host "KV staging"
  std::byte* read_ring[2] = {};   // [disk_pages] of file_page_bytes
  std::byte* write_ring[2] = {};  // [completed_pages] of file_page_bytes
  /// Keys, values [tokens, kv_row_bytes] each; where the host attends, query, out [tokens,
  /// query_row_bytes] each behind them.
  std::byte* row_ring[2] = {};
  // host kControl
  std::byte* host_tables = nullptr;  // [2][GPU batch] of host_table_bytes()

  std::uint64_t device_cache_bytes = 0;
  std::uint64_t host_cache_bytes = 0;
  std::uint64_t device_staging_bytes = 0;
  std::uint64_t host_staging_bytes = 0;
  std::uint64_t control_bytes = 0;
};

}  // namespace sluice::offload
