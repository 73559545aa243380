// A map from 64-bit keys to 64-bit values in one block of memory, for tables that are asked
// millions of times and never shrink.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::launcher {

/// Keys may be anything but kFree.
class FlatMap {
 public:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};

  /// Null: there is no such key. Valid until the next put().
  const std::uint64_t* find(std::uint64_t key) const {
    if (slots_.empty()) return nullptr;
    for (std::size_t at = place(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return &slots_[at].value;
      if (slots_[at].key == kFree) return nullptr;
    }
  }

  /// Adds the key, or gives it another value.
  void put(std::uint64_t key, std::uint64_t value) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    for (std::size_t at = place(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == kFree) ++count_;
      if (slots_[at].key != kFree && slots_[at].key != key) continue;
      slots_[at] = {key, value};
      return;
    }
  }

  std::size_t size() const { return count_; }

 private:
  struct Slot {
    std::uint64_t key = kFree;
    std::uint64_t value = 0;
  };

  std::size_t place(std::uint64_t key) const {
    key ^= key >> 32;
    key *= 0x9E3779B97F4A7C15U;
    return static_cast<std::size_t>(key >> 20) & (slots_.size() - 1);
  }

  void grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
    old.swap(slots_);
    count_ = 0;
    for (const Slot& slot : old) {
      if (slot.key != kFree) put(slot.key, slot.value);
    }
  }

  std::vector<Slot> slots_;  // a power of two
  std::size_t count_ = 0;
};

}  // namespace sluice::launcher
