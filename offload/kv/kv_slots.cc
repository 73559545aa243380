#include "offload/kv/kv_slots.h"

#include <fmt/format.h>

#include <algorithm>

#include "offload/kv/kv_checks.h"

namespace sluice::offload {

KvSlots::KvSlots(const KvLayout& layout, const KvMemory& memory, Backend& backend,
                 KvAppended& appended)
    : layout_(layout),
      memory_(memory),
      backend_(backend),
      appended_(appended),
      lengths_(static_cast<std::size_t>(layout.shape.slots), 0) {
  pages_.reserve(layout.reaches.size());
  for (std::size_t i = 0; i < layout.reaches.size(); ++i) pages_.emplace_back(layout, i);
}

void KvSlots::begin(std::span<const KvSequence> sequences) {
  const auto joins = [](const KvSequence& one) { return one.prefix >= 0 || one.copies(); };
  for (const KvSequence& sequence : sequences) {
    const bool starts = sequence.context == sequence.new_tokens || joins(sequence);
    if (starts) forget({&sequence.slot, 1});
    if (sequence.prefix >= 0) share(sequence);
  }
  for (const KvSequence& sequence : sequences) {
    for (KvPageTable& pages : pages_) {
      pages.take(sequence.slot, sequence.context, layout_.most_tokens(sequence));
    }
    lengths_[static_cast<std::size_t>(sequence.slot)] = sequence.context;
  }
  for (const KvSequence& sequence : sequences) {
    if (sequence.copies()) copy_page(sequence);
    if (joins(sequence)) mark_begun(sequence.slot);
  }
}

void KvSlots::share(const KvSequence& sequence) {
  KvPageTable& pages = pages_.front();
  pages.share(sequence.slot, sequence.prefix);
  const std::int32_t tokens = pages.count(sequence.slot) * layout_.shape.page_tokens;
  const std::int32_t history = sequence.context - sequence.new_tokens;
  const std::int32_t copied = sequence.copies() ? history % layout_.shape.page_tokens : 0;
  if (tokens + copied != history) {
    throw_bug(fmt::format("slot {} starts behind {} tokens with a prefix of {}, and copies {}",
                          sequence.slot, history, tokens, copied));
  }
}

/// The whole page: what is behind the common tokens is overwritten before it is read. Both pages
/// are written on the lane of the copy alone, and whatever read the new one before has ended.
void KvSlots::copy_page(const KvSequence& sequence) {
  KvPageTable& pages = pages_.front();
  const std::int32_t history = sequence.context - sequence.new_tokens;
  const std::int32_t index = history / layout_.shape.page_tokens;
  const std::int32_t source = sequence.copied_of_slot;
  const Tier tier = tier_of(sequence.slot);
  const bool is_slot = source >= 0 && source < layout_.shape.slots && tier_of(source) == tier &&
                       pages.count(source) > index;
  const bool is_prefix = source < 0 && tier != Tier::disk;
  if (!layout_.shares_prefixes() || history % layout_.shape.page_tokens == 0 ||
      !(is_slot || is_prefix)) {
    throw_bug(fmt::format("slot {} copies page {}, which there is not", sequence.slot, index));
  }
  if (tier == Tier::disk) {
    const auto place = [&](std::int32_t slot) {
      return layout_.places[static_cast<std::size_t>(slot)];
    };
    return copy_layers(tier, place(source), place(sequence.slot));
  }
  std::int32_t from = -1;
  std::int32_t to = -1;
  if (is_prefix) from = pages.last_page(sequence.copied_from, tier);
  if (is_slot) pages.list(source, index, {&from, 1});
  pages.list(sequence.slot, index, {&to, 1});
  copy_layers(tier, from, to);
}

/// Of disk sequences the pages that are not full, by place; else pages by number.
void KvSlots::copy_layers(Tier tier, std::int64_t from, std::int64_t to) {
  std::byte* base = tier == Tier::device ? memory_.device_pages
                    : tier == Tier::host ? memory_.host_pages
                                         : memory_.host_tails;
  const std::int64_t pages = tier == Tier::disk ? layout_.slots_in(tier) : layout_.pool_of(tier);
  const Lane lane = tier == Tier::device ? Lane::compute : Lane::host_compute;
  for (std::int64_t layer = 0; layer < layout_.shape.layers; ++layer) {
    const auto at = [&](std::int64_t page) {
      return base + static_cast<std::size_t>(layer * pages + page) * layout_.page_bytes;
    };
    backend_.copy(lane, at(to), at(from), layout_.page_bytes);
  }
}

/// Of a sequence that begins with what others have computed: they appended it in passes before,
/// whose work is all on the lane.
void KvSlots::mark_begun(std::int32_t slot) {
  if (!layout_.uses_rows()) return;
  const Event appended = backend_.record(Lane::host_compute);
  for (std::int32_t layer = 0; layer < layout_.shape.layers; ++layer) {
    appended_.at(slot, layer) = appended;
  }
}

void KvSlots::keep(std::int32_t slot, std::int32_t first, std::span<const std::int32_t> prefixes) {
  const bool is_slot = slot >= 0 && slot < layout_.shape.slots;
  const std::int64_t end = std::int64_t{first} + static_cast<std::int64_t>(prefixes.size());
  if (!layout_.shares_prefixes() || !is_slot || first < 0 ||
      end * layout_.shape.page_tokens > lengths_[static_cast<std::size_t>(slot)]) {
    throw_bug(fmt::format("pages {} to {} of slot {} are kept as prefixes", first, end, slot));
  }
  for (const std::int32_t prefix : prefixes) pages_.front().keep(slot, first++, prefix);
}

void KvSlots::drop(std::span<const std::int32_t> prefixes) {
  for (const std::int32_t prefix : prefixes) pages_.front().drop(prefix);
}

void KvSlots::forget(std::span<const std::int32_t> slots) {
  for (const std::int32_t slot : slots) {
    if (slot < 0 || slot >= layout_.shape.slots) {
      throw_bug(fmt::format("slot {} is forgotten; there are {}", slot, layout_.shape.slots));
    }
    std::int32_t& length = lengths_[static_cast<std::size_t>(slot)];
    add_usage(slot, ended_);
    for (KvPageTable& pages : pages_) pages.give_back(slot);
    length = 0;
  }
}

void KvSlots::add_usage(std::int32_t slot, KvUsage& usage) const {
  const std::int64_t taken = std::int64_t{pages_.front().count(slot)} * layout_.shape.page_tokens;
  const std::int64_t length = lengths_[static_cast<std::size_t>(slot)];
  usage.tokens_stored += static_cast<std::uint64_t>(std::min(length, taken));
  usage.tokens_taken += static_cast<std::uint64_t>(taken);
}

KvUsage KvSlots::usage() const {
  KvUsage usage = ended_;
  for (std::int32_t slot = 0; slot < layout_.shape.slots; ++slot) add_usage(slot, usage);
  return usage;
}

}  // namespace sluice::offload
