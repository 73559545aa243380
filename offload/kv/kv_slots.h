// Which tokens and pages the sequence of each slot has: it begins, grows and ends, alone or behind
// what others have computed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/backend.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_pages.h"
#include "offload/kv/kv_stream.h"

namespace sluice::offload {

/// One thread calls. Throws Error by throw_bug() for what cannot be.
class KvSlots {
 public:
  /// All references must outlive it.
  KvSlots(const KvLayout& layout, const KvMemory& memory, Backend& backend, KvAppended& appended);

  /// Sequences take pages for their new tokens, in the order given. Those that start forget what
  /// their slots held. Of a page that is copied the copies of all layers are put on the lane that
  /// writes such pages: Lane::compute, for host and disk Lane::host_compute.
  void begin(std::span<const KvSequence> sequences);
  /// As KvCache has them.
  void forget(std::span<const std::int32_t> slots);
  void keep(std::int32_t slot, std::int32_t first, std::span<const std::int32_t> prefixes);
  void drop(std::span<const std::int32_t> prefixes);
  KvUsage usage() const;

  std::span<const KvPageTable> pages() const { return pages_; }       // by reach
  std::span<const std::int32_t> lengths() const { return lengths_; }  // tokens, by slot

 private:
  void share(const KvSequence& sequence);
  void copy_page(const KvSequence& sequence);
  void copy_layers(Tier tier, std::int64_t from, std::int64_t to);
  void mark_begun(std::int32_t slot);
  void add_usage(std::int32_t slot, KvUsage& usage) const;
  Tier tier_of(std::int32_t slot) const { return layout_.tiers[static_cast<std::size_t>(slot)]; }

  const KvLayout& layout_;
  const KvMemory& memory_;
  Backend& backend_;
  KvAppended& appended_;
  std::vector<KvPageTable> pages_;
  std::vector<std::int32_t> lengths_;
  KvUsage ended_;  // of sequences that have been forgotten
};

}  // namespace sluice::offload
