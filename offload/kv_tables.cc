#include "offload/kv_tables.h"

#include <algorithm>

namespace sluice::offload {

namespace {

void add_rows(std::vector<KvRows>& rows, const KvSequence& sequence) {
  if (!rows.empty() && rows.back().first + rows.back().count == sequence.first_row) {
    rows.back().count += sequence.new_tokens;
  } else {
    rows.push_back({sequence.first_row, sequence.new_tokens});
  }
}

}  // namespace

std::uint64_t KvTable::bytes(const KvLayout& layout) {
  const auto capacity = static_cast<std::uint64_t>(layout.shape.gpu_batch_size);
  const auto columns = 3 + static_cast<std::uint64_t>(layout.pages_per_slot);
  return (capacity * columns * sizeof(std::int32_t) + 63) / 64 * 64;
}

KvTable::KvTable(const KvLayout& layout, std::byte* memory)
    : memory_(memory),
      capacity_(layout.shape.gpu_batch_size),
      pages_per_slot_(layout.pages_per_slot),
      page_tokens_(layout.shape.page_tokens) {}

std::int32_t* KvTable::array(std::int32_t index) const {
  return reinterpret_cast<std::int32_t*>(memory_) + std::ptrdiff_t{index} * capacity_;
}

void KvTable::add(const KvSequence& sequence, std::int32_t first_page, std::int32_t from_page) {
  array(0)[sequences_] = sequence.first_row;
  array(1)[sequences_] = sequence.new_tokens;
  array(2)[sequences_] = sequence.context;
  std::int32_t* pages = array(3) + std::ptrdiff_t{sequences_} * pages_per_slot_;
  const std::int32_t end = (sequence.context - 1) / page_tokens_ + 1;
  for (std::int32_t i = 0; i < end; ++i) pages[i] = first_page + std::max(i, from_page);
  ++sequences_;
}

kernels::KvBatch KvTable::batch_at(const std::byte* copy) const {
  const auto* start = reinterpret_cast<const std::int32_t*>(copy);
  return {sequences_,
          pages_per_slot_,
          start,
          start + capacity_,
          start + std::ptrdiff_t{2} * capacity_,
          start + std::ptrdiff_t{3} * capacity_};
}

std::size_t KvTable::used_bytes() const {
  const std::int32_t* end = array(3) + std::ptrdiff_t{sequences_} * pages_per_slot_;
  return static_cast<std::size_t>(reinterpret_cast<const std::byte*>(end) - memory_);
}

KvStep::KvStep(const KvLayout& layout, std::byte* tables) {
  for (KvTable* table : {&device, &streamed, &host, &completed, &tails}) {
    *table = KvTable(layout, tables);
    tables += KvTable::bytes(layout);
  }
  const auto sequences = static_cast<std::size_t>(layout.shape.gpu_batch_size);
  streamed_sequences.reserve(sequences);
  completed_runs.reserve(sequences);
  host_slots.reserve(sequences);
  disk_slots.reserve(sequences);
  host_rows.reserve(sequences);
  disk_rows.reserve(sequences);
}

void KvStep::fill(const KvLayout& layout, std::span<const KvSequence> sequences,
                  std::int32_t in_pass) {
  pass = in_pass;
  rows = 0;
  write_pages_ = 0;
  for (KvTable* table : {&device, &streamed, &host, &completed, &tails}) table->clear();
  streamed_sequences.clear();
  completed_runs.clear();
  host_slots.clear();
  disk_slots.clear();
  host_rows.clear();
  disk_rows.clear();
  for (const KvSequence& sequence : sequences) {
    const auto slot = static_cast<std::size_t>(sequence.slot);
    const Tier tier = layout.tiers[slot];
    const std::int32_t place = layout.places[slot];
    rows = std::max(rows, sequence.first_row + sequence.new_tokens);
    if (tier == Tier::device) {
      device.add(sequence, place * layout.pages_per_slot);
      continue;
    }
    if (tier == Tier::disk || !layout.host_attends) {
      const auto position = static_cast<std::int32_t>(streamed_sequences.size());
      streamed.add(sequence, position * layout.pages_per_slot);
      streamed_sequences.push_back(
          {sequence.slot, tier, place, sequence.context - sequence.new_tokens});
    }
    if (tier == Tier::host) {
      host.add(sequence, place * layout.pages_per_slot);
      host_slots.push_back(sequence.slot);
      add_rows(host_rows, sequence);
    } else {
      add_disk(layout, sequence, place);
    }
  }
}

// The new tokens of a disk sequence are appended in two parts, each a sequence for the kernels:
// those that fall into pages now full, which go to the write buffer, and those of the page that
// stays partial, which go to the tail. The page numbers differ in base only, so one table serves
// all layers.
void KvStep::add_disk(const KvLayout& layout, const KvSequence& sequence, std::int32_t place) {
  disk_slots.push_back(sequence.slot);
  add_rows(disk_rows, sequence);
  const std::int32_t page_tokens = layout.shape.page_tokens;
  const std::int32_t history = sequence.context - sequence.new_tokens;
  const std::int32_t full = sequence.context / page_tokens;  // pages full after this pass
  const std::int32_t first = history / page_tokens;          // the first page with new tokens
  KvSequence tail = sequence;
  if (full > first) {
    KvSequence head = sequence;
    head.context = full * page_tokens;
    head.new_tokens = head.context - history;
    completed.add(head, write_pages_ - first, first);
    completed_runs.push_back(
        {sequence.slot, place, first, full - first, write_pages_, history % page_tokens != 0});
    write_pages_ += full - first;
    tail.first_row += head.new_tokens;
    tail.new_tokens -= head.new_tokens;
  }
  if (tail.new_tokens > 0) tails.add(tail, place - full, full);
}

}  // namespace sluice::offload
