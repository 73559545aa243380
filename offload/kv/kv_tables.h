// The sequences of a GPU batch in one pass, as arrays of 32-bit integers for the kernels. Each way
// to attend and to store has a table of its own.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/ops.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_pages.h"

namespace sluice::offload {

/// The arrays of one kernels::KvBatch in a fixed place: first_row, new_tokens, context [capacity]
/// each, then pages [capacity, pages_per_slot].
class KvTable {
 public:
  static std::uint64_t bytes(const KvLayout& layout);

  KvTable() = default;
  KvTable(const KvLayout& layout, std::byte* memory);

  void clear() { sequences_ = 0; }
  /// Adds a sequence; returns the numbers of its pages, for the caller to write.
  std::span<std::int32_t> add(const KvSequence& sequence);

  bool empty() const { return sequences_ == 0; }
  kernels::KvBatch batch() const { return batch_at(memory_); }
  /// This batch, with old pages by the numbers of `homes`, a table of the same sequences.
  static kernels::KvBatch with_homes(kernels::KvBatch batch, const kernels::KvBatch& homes) {
    batch.old_pages = homes.pages;
    return batch;
  }
  /// The same arrays where they were copied to.
  kernels::KvBatch batch_at(const std::byte* copy) const;
  const std::byte* memory() const { return memory_; }
  std::size_t used_bytes() const;

 private:
  std::int32_t* array(std::int32_t index) const;

  std::byte* memory_ = nullptr;
  std::int32_t capacity_ = 0;
  std::int32_t pages_per_slot_ = 0;
  std::int32_t page_tokens_ = 0;
  std::int32_t sequences_ = 0;
};

/// Rows [first, first + count) of the activations.
struct KvRows {
  std::int32_t first = 0;
  std::int32_t count = 0;
};

/// A sequence whose history is fetched for each layer, as far as it is in sight. Pages that it
/// shares with a sequence before it in the step are fetched once, for that one.
struct KvStreamed {
  std::int32_t slot = 0;
  Tier tier = Tier::host;
  std::int32_t place = 0;       // of the slot in its tier
  std::int32_t history = 0;     // tokens before this pass
  std::int32_t first_page = 0;  // in the staging buffer and in KvReachStep::homes
  std::int32_t skipped = 0;     // pages of the sequence before that one
  bool keys_only = false;       // KvLayout::fetches_keys_only
};

/// A page that began in an earlier pass, lies in the tail of a slot, and is filled in this pass: it
/// goes to page `write_page` of the write buffer.
struct KvBegunPage {
  std::int32_t place = 0;  // of the slot in its tier
  std::int32_t write_page = 0;
};

/// Where pages of each tier are staged; scratch of KvStep::fill().
class KvStagedPages {
 public:
  explicit KvStagedPages(const KvLayout& layout);

  /// The number in the staging buffer; -1: it is not there.
  std::int32_t& at(Tier tier, std::int32_t page) {
    return pages_[static_cast<std::size_t>(tier)][static_cast<std::size_t>(page)];
  }

 private:
  PerTier<std::vector<std::int32_t>> pages_;  // by page; none where sequences are not streamed
};

/// Sequences that are attended at one place. A sequence whose new tokens end its prompt and begin
/// its answer is in both tables, with the tokens of each.
struct KvTables {
  KvTable dense;   // tokens that attend to all values
  KvTable sparse;  // ... to few: KvLayout::kept_millionths

  bool empty() const { return dense.empty() && sparse.empty(); }
  void clear() {
    dense.clear();
    sparse.clear();
  }
};

/// What the layers of one reach have of their own: page numbers. Pages out of sight of the new
/// tokens have the number of the first one in sight.
struct KvReachStep {
  KvTables device;     // device pages
  KvTables streamed;   // staging pages: sequences one after the other
  KvTable lean;        // likewise those of which keys alone are fetched ...
  KvTable lean_homes;  // ... and their host pages, whose values are read there
  KvTables host;       // host pages: attended there, or appended to after streaming
  std::vector<KvStreamed> streamed_sequences;
  std::vector<std::int32_t> homes;            // by staging page: where it lives in its tier
  std::vector<std::int32_t> completed_homes;  // by page of the write buffer: its page in the file

  /// Whether any sequence is streamed, and those tables that the device reads.
  bool streams() const { return !streamed.empty() || !lean.empty(); }
  std::array<const KvTable*, 6> on_device() const {
    return {&device.dense, &device.sparse, &streamed.dense, &streamed.sparse, &lean, &lean_homes};
  }
  /// Whether there is anything to fetch.
  bool has_history() const;
};

/// A GPU batch in a pass.
struct KvStep {
  std::int32_t pass = -1;
  std::int32_t rows = 0;             // activations must have at least as many
  std::vector<KvReachStep> reaches;  // by KvLayout::reaches
  KvTable completed;                 // tokens of disk sequences in pages filled by this pass
  KvTable tails;                     // ... in the page that stays partial
  std::vector<KvBegunPage> begun_pages;
  std::vector<std::int32_t> host_slots;  // of KvReachStep::host
  std::vector<std::int32_t> disk_slots;
  std::vector<KvRows> host_rows;  // of KvReachStep::host, neighbours merged
  std::vector<KvRows> disk_rows;
  Event uploaded;   // the tables were copied to the device
  Event host_used;  // the last work on Lane::host_compute that reads them

  static std::uint64_t host_table_bytes(const KvLayout& layout) {
    return device_table_bytes(layout) +
           (layout.ways() * layout.reaches.size() + 2) * KvTable::bytes(layout);
  }
  /// All tables of every reach but `host`: the first ones in the memory of a step.
  static std::uint64_t device_table_bytes(const KvLayout& layout) {
    const std::size_t tables = 2 * layout.ways() + (layout.fetches_keys_only ? 2 : 0);
    return tables * layout.reaches.size() * KvTable::bytes(layout);
  }
  KvStep(const KvLayout& layout, std::byte* tables);

  /// Of one layer.
  const KvReachStep& of(const KvLayout& layout, std::int32_t layer) const {
    return reaches[layout.reach_of(layer)];
  }

  /// Overwrites all but the events; never allocates. Sequences must have been checked, and have
  /// their pages. `pages`: by reach.
  void fill(const KvLayout& layout, std::span<const KvPageTable> pages, KvStagedPages& staged,
            std::span<const KvSequence> sequences, std::int32_t in_pass);

 private:
  void clear();
  void add_disk(const KvLayout& layout, std::span<const KvPageTable> pages,
                const KvSequence& sequence);
};

}  // namespace sluice::offload
