// Tokens of short words that were seen before. Its size is fixed, so no text can fill the memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace sluice::launcher {

/// Not for two threads at once.
class WordCache {
 public:
  /// Nothing: the word is not there, or has no tokens. Valid until the next add().
  std::span<const std::int32_t> find(std::string_view word) const {
    if (word.empty() || word.size() > kMaxBytes || slots_.empty()) return {};
    const Slot& slot = slots_[place(word)];
    if (std::string_view(slot.word.data(), slot.bytes) != word) return {};
    return {slot.ids.data(), slot.count};
  }

  /// Takes the place of another word if need be. Long words are not kept.
  void add(std::string_view word, std::span<const std::int32_t> ids) {
    if (word.empty() || word.size() > kMaxBytes || ids.size() > kMaxIds) return;
    if (slots_.empty()) slots_.resize(kSlots);
    Slot& slot = slots_[place(word)];
    slot.bytes = static_cast<std::uint8_t>(word.size());
    slot.count = static_cast<std::uint8_t>(ids.size());
    std::ranges::copy(word, slot.word.begin());
    std::ranges::copy(ids, slot.ids.begin());
  }

 private:
  static constexpr std::size_t kSlots = 1 << 15;
  static constexpr std::size_t kMaxBytes = 30;
  static constexpr std::size_t kMaxIds = 8;
  struct Slot {
    std::uint8_t bytes = 0;
    std::uint8_t count = 0;
    std::array<char, kMaxBytes> word = {};
    std::array<std::int32_t, kMaxIds> ids = {};
  };

  static std::size_t place(std::string_view word) {
    return std::hash<std::string_view>()(word) & (kSlots - 1);
  }

  std::vector<Slot> slots_;
};

}  // namespace sluice::launcher
