#include "grammar/characters.h"

#include <algorithm>

namespace sluice::grammar {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800;
constexpr char32_t kLastSurrogate = 0xDFFF;

std::vector<std::uint8_t> bytes_of(char32_t character) {
  const auto low_six = [character](int shift) {
    return static_cast<std::uint8_t>(0x80U | (character >> shift & 0x3FU));
  };
  if (character < 0x80) return {static_cast<std::uint8_t>(character)};
  if (character < 0x800) return {static_cast<std::uint8_t>(0xC0U | character >> 6), low_six(0)};
  if (character < 0x10000) {
    return {static_cast<std::uint8_t>(0xE0U | character >> 12), low_six(6), low_six(0)};
  }
  return {static_cast<std::uint8_t>(0xF0U | character >> 18), low_six(12), low_six(6), low_six(0)};
}

/// Cuts [low, high] until all of its characters have the same number of bytes, and each byte's
/// range does not depend on the bytes before it.
void split(char32_t low, char32_t high, std::vector<ByteRanges>& found) {
  for (const char32_t last : {char32_t{0x7F}, char32_t{0x7FF}, char32_t{0xFFFF}}) {
    if (low <= last && high > last) {
      split(low, last, found);
      split(last + 1, high, found);
      return;
    }
  }
  if (high >= 0x80) {
    for (int bits = 6; bits <= 18; bits += 6) {
      const char32_t mask = (char32_t{1} << bits) - 1;
      if ((low & ~mask) == (high & ~mask)) continue;
      if ((low & mask) != 0) {
        split(low, low | mask, found);
        split((low | mask) + 1, high, found);
        return;
      }
      if ((high & mask) != mask) {
        split(low, (high & ~mask) - 1, found);
        split(high & ~mask, high, found);
        return;
      }
    }
  }
  const std::vector<std::uint8_t> first = bytes_of(low);
  const std::vector<std::uint8_t> last = bytes_of(high);
  ByteRanges ranges;
  for (std::size_t i = 0; i < first.size(); ++i) ranges.bytes.push_back({first[i], last[i]});
  found.push_back(std::move(ranges));
}

}  // namespace

CharacterSet CharacterSet::of(char32_t low, char32_t high) {
  CharacterSet set;
  set.add(low, high);
  return set;
}

void CharacterSet::add(char32_t low, char32_t high) {
  high = std::min(high, kLastCharacter);
  if (low <= kLastSurrogate && high >= kFirstSurrogate) {
    if (low < kFirstSurrogate) add(low, kFirstSurrogate - 1);
    if (high > kLastSurrogate) add(kLastSurrogate + 1, high);
    return;
  }
  if (low > high) return;
  ranges_.push_back({low, high});
  std::ranges::sort(ranges_);
  std::vector<CharacterRange> merged;
  for (const CharacterRange& range : ranges_) {
    if (!merged.empty() && range.low <= merged.back().high + 1) {
      merged.back().high = std::max(merged.back().high, range.high);
    } else {
      merged.push_back(range);
    }
  }
  ranges_ = std::move(merged);
}

void CharacterSet::add(const CharacterSet& other) {
  for (const CharacterRange& range : other.ranges_) add(range.low, range.high);
}

CharacterSet CharacterSet::complement() const {
  CharacterSet rest;
  char32_t next = 0;
  for (const CharacterRange& range : ranges_) {
    if (range.low > next) rest.add(next, range.low - 1);
    next = range.high + 1;
  }
  if (next <= kLastCharacter) rest.add(next, kLastCharacter);
  return rest;
}

CharacterSet CharacterSet::common(const CharacterSet& other) const {
  CharacterSet outside = complement();
  outside.add(other.complement());
  return outside.complement();
}

bool CharacterSet::has(char32_t character) const {
  return std::ranges::any_of(ranges_, [character](const CharacterRange& range) {
    return range.low <= character && character <= range.high;
  });
}

std::vector<ByteRanges> utf8_of(const CharacterSet& set) {
  std::vector<ByteRanges> found;
  for (const CharacterRange& range : set.ranges()) split(range.low, range.high, found);
  return found;
}

}  // namespace sluice::grammar
