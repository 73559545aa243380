#include "offload/kv/kv_tables.h"

#include <algorithm>
#include <numeric>

namespace sluice::offload {

namespace {

void add_rows(std::vector<KvRows>& rows, const KvSequence& sequence) {
  if (!rows.empty() && rows.back().first + rows.back().count == sequence.first_row) {
    rows.back().count += sequence.new_tokens;
  } else {
    rows.push_back({sequence.first_row, sequence.new_tokens});
  }
}

/// Numbers pages `from` and later number, number + 1, ... Earlier pages, which appending does not
/// touch, get `number` too.
void number_from(std::span<std::int32_t> pages, std::int32_t from, std::int32_t number) {
  const auto first = pages.begin() + from;
  std::fill(pages.begin(), first, number);
  std::iota(first, pages.end(), number);
}

}  // namespace

KvStagedPages::KvStagedPages(const KvLayout& layout) {
  for (const Tier tier : {Tier::host, Tier::disk}) {
    const bool is_streamed = tier == Tier::disk || !layout.host_attends;
    pages_[static_cast<std::size_t>(tier)].resize(
        static_cast<std::size_t>(is_streamed ? layout.pool_of(tier) : 0), -1);
  }
}

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

std::span<std::int32_t> KvTable::add(const KvSequence& sequence) {
  array(0)[sequences_] = sequence.first_row;
  array(1)[sequences_] = sequence.new_tokens;
  array(2)[sequences_] = sequence.context;
  std::int32_t* pages = array(3) + std::ptrdiff_t{sequences_} * pages_per_slot_;
  ++sequences_;
  return {pages, static_cast<std::size_t>((sequence.context - 1) / page_tokens_ + 1)};
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

KvStep::KvStep(const KvLayout& layout, std::byte* tables) : reaches(layout.reaches.size()) {
  const auto make = [&](KvTable& table) {
    table = KvTable(layout, tables);
    tables += KvTable::bytes(layout);
  };
  const auto make_all = [&](KvTables& of) {
    make(of.dense);
    if (layout.kept_millionths > 0) make(of.sparse);
  };
  for (KvReachStep& reach : reaches) {
    make_all(reach.device);
    make_all(reach.streamed);
    if (!layout.fetches_keys_only) continue;
    make(reach.lean);
    make(reach.lean_homes);
  }
  const auto sequences = static_cast<std::size_t>(layout.shape.gpu_batch_size);
  for (KvReachStep& reach : reaches) {
    make_all(reach.host);
    reach.streamed_sequences.reserve(sequences);
    reach.homes.reserve(static_cast<std::size_t>(layout.streamed_pages));
    reach.completed_homes.reserve(static_cast<std::size_t>(layout.completed_pages));
  }
  make(completed);
  make(tails);
  begun_pages.reserve(sequences);
  host_slots.reserve(sequences);
  disk_slots.reserve(sequences);
  host_rows.reserve(sequences);
  disk_rows.reserve(sequences);
}

void KvStep::clear() {
  rows = 0;
  for (KvReachStep& reach : reaches) {
    for (KvTables* tables : {&reach.device, &reach.streamed, &reach.host}) tables->clear();
    reach.lean.clear();
    reach.lean_homes.clear();
    reach.streamed_sequences.clear();
    reach.homes.clear();
    reach.completed_homes.clear();
  }
  completed.clear();
  tails.clear();
  begun_pages.clear();
  host_slots.clear();
  disk_slots.clear();
  host_rows.clear();
  disk_rows.clear();
}

bool KvReachStep::has_history() const {
  return std::any_of(streamed_sequences.begin(), streamed_sequences.end(),
                     [](const KvStreamed& sequence) { return sequence.history > 0; });
}

namespace {

/// Puts sequences into the tables of one reach.
class ReachFill {
 public:
  ReachFill(const KvLayout& layout, const KvReach& reach, const KvPageTable& pages,
            KvStagedPages& staged, KvReachStep& step)
      : layout_(layout), reach_(reach), pages_(pages), staged_(staged), step_(step) {}
  ~ReachFill() {
    for (const KvStreamed& sequence : step_.streamed_sequences) {
      for (std::size_t i = 0; i < pages_of(sequence); ++i) {
        const std::size_t page = static_cast<std::size_t>(sequence.first_page) + i;
        staged_.at(sequence.tier, step_.homes[page]) = -1;
      }
    }
  }
  ReachFill(const ReachFill&) = delete;
  ReachFill& operator=(const ReachFill&) = delete;

  void add(const KvSequence& sequence) {
    const Tier tier = layout_.tiers[static_cast<std::size_t>(sequence.slot)];
    const std::int32_t history = sequence.context - sequence.new_tokens;
    const auto first = static_cast<std::size_t>(
        first_page_in_sight(history, reach_.window, layout_.shape.page_tokens));
    const auto at_home = [&](std::span<std::int32_t> numbers) {
      list(numbers, first, sequence.slot);
    };
    if (tier == Tier::device) return add_to(step_.device, sequence, at_home);
    if (tier == Tier::disk || !layout_.host_attends) add_streamed(sequence, tier, history, first);
    if (tier == Tier::host) add_to(step_.host, sequence, at_home);
  }

 private:
  void list(std::span<std::int32_t> numbers, std::size_t first, std::int32_t slot) const {
    pages_.list(slot, static_cast<std::int32_t>(first), numbers.subspan(first));
    std::fill_n(numbers.begin(), first, numbers[first]);
  }

  /// number(numbers) for each part of the sequence, whose page numbers it writes.
  template <typename Number>
  void add_to(KvTables& tables, const KvSequence& sequence, const Number& number) const {
    const std::int32_t history = sequence.context - sequence.new_tokens;
    const std::int32_t dense = layout_.kept_millionths == 0
                                   ? sequence.new_tokens
                                   : std::clamp(sequence.dense - history, 0, sequence.new_tokens);
    KvSequence part = sequence;
    part.new_tokens = dense;
    part.context = history + dense;
    if (dense > 0) number(tables.dense.add(part));
    part.first_row += dense;
    part.new_tokens = sequence.new_tokens - dense;
    part.context = sequence.context;
    if (part.new_tokens > 0) number(tables.sparse.add(part));
  }

  void add_streamed(const KvSequence& sequence, Tier tier, std::int32_t history,
                    std::size_t first) const {
    const std::size_t first_staged = step_.homes.size();
    const std::size_t skipped = first + add_homes(sequence, tier, first);
    const auto stage = [&](std::span<std::int32_t> numbers) {
      list(numbers, first, sequence.slot);
      for (std::int32_t& number : numbers) number = staged_.at(tier, number);
    };
    const bool keys_only =
        layout_.fetches_keys_only && tier == Tier::host && history > 0 && sequence.dense <= history;
    if (keys_only) {
      stage(step_.lean.add(sequence));
      list(step_.lean_homes.add(sequence), first, sequence.slot);
    } else {
      add_to(step_.streamed, sequence, stage);
    }
    step_.streamed_sequences.push_back(
        {sequence.slot, tier, layout_.places[static_cast<std::size_t>(sequence.slot)], history,
         static_cast<std::int32_t>(first_staged), static_cast<std::int32_t>(skipped), keys_only});
  }

  /// Stages the pages of a sequence from page `first` on. Sequences share what they begin with, so
  /// those that are staged already come first: returns how many these are.
  std::size_t add_homes(const KvSequence& sequence, Tier tier, std::size_t first) const {
    const std::size_t staged = step_.homes.size();
    const std::size_t pages = static_cast<std::size_t>(layout_.pages_for(sequence.context)) - first;
    step_.homes.resize(staged + pages);
    const std::span<std::int32_t> own = std::span(step_.homes).last(pages);
    pages_.list(sequence.slot, static_cast<std::int32_t>(first), own);
    std::size_t shared = 0;
    while (shared < pages && staged_.at(tier, own[shared]) >= 0) ++shared;
    std::ranges::copy(own.subspan(shared), own.begin());
    step_.homes.resize(staged + pages - shared);
    for (std::size_t i = staged; i < step_.homes.size(); ++i) {
      staged_.at(tier, step_.homes[i]) = static_cast<std::int32_t>(i);
    }
    return shared;
  }

  /// Of homes.
  std::size_t pages_of(const KvStreamed& sequence) const {
    const auto index = static_cast<std::size_t>(&sequence - step_.streamed_sequences.data());
    const std::size_t end =
        index + 1 < step_.streamed_sequences.size()
            ? static_cast<std::size_t>(step_.streamed_sequences[index + 1].first_page)
            : step_.homes.size();
    return end - static_cast<std::size_t>(sequence.first_page);
  }

  const KvLayout& layout_;
  const KvReach& reach_;
  const KvPageTable& pages_;
  KvStagedPages& staged_;
  KvReachStep& step_;
};

}  // namespace

void KvStep::fill(const KvLayout& layout, std::span<const KvPageTable> pages, KvStagedPages& staged,
                  std::span<const KvSequence> sequences, std::int32_t in_pass) {
  clear();
  pass = in_pass;
  for (std::size_t i = 0; i < reaches.size(); ++i) {
    ReachFill reach(layout, layout.reaches[i], pages[i], staged, reaches[i]);
    for (const KvSequence& sequence : sequences) reach.add(sequence);
  }
  for (const KvSequence& sequence : sequences) {
    rows = std::max(rows, sequence.first_row + sequence.new_tokens);
    const Tier tier = layout.tiers[static_cast<std::size_t>(sequence.slot)];
    if (tier == Tier::host) {
      host_slots.push_back(sequence.slot);
      add_rows(host_rows, sequence);
    }
    if (tier == Tier::disk) add_disk(layout, pages, sequence);
  }
}

// The new tokens of a disk sequence are appended in two parts, each a sequence for the kernels.
// Tokens of pages that this pass fills go to the write buffer; tokens of the page that stays
// partial go to the tail. Layers differ in the base address only, so one table serves all of them;
// where the write buffer goes to depends on their reach.
void KvStep::add_disk(const KvLayout& layout, std::span<const KvPageTable> pages,
                      const KvSequence& sequence) {
  disk_slots.push_back(sequence.slot);
  add_rows(disk_rows, sequence);
  const std::int32_t place = layout.places[static_cast<std::size_t>(sequence.slot)];
  const std::int32_t page_tokens = layout.shape.page_tokens;
  const std::int32_t history = sequence.context - sequence.new_tokens;
  const std::int32_t full = sequence.context / page_tokens;  // pages full after this pass
  const std::int32_t first = history / page_tokens;          // the first page with new tokens
  KvSequence tail = sequence;
  if (full > first) {
    KvSequence head = sequence;
    head.context = full * page_tokens;
    head.new_tokens = head.context - history;
    const std::size_t write_page = reaches.front().completed_homes.size();
    number_from(completed.add(head), first, static_cast<std::int32_t>(write_page));
    const auto filled = static_cast<std::size_t>(full - first);
    for (std::size_t i = 0; i < reaches.size(); ++i) {
      std::vector<std::int32_t>& homes = reaches[i].completed_homes;
      homes.resize(write_page + filled);
      pages[i].list(sequence.slot, first, std::span(homes).last(filled));
    }
    if (history % page_tokens != 0) {
      begun_pages.push_back({place, static_cast<std::int32_t>(write_page)});
    }
    tail.first_row += head.new_tokens;
    tail.new_tokens -= head.new_tokens;
  }
  if (tail.new_tokens > 0) number_from(tails.add(tail), full, place);
}

}  // namespace sluice::offload
