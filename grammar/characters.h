// Sets of characters (Unicode scalar values), as classes of a pattern name them.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

namespace sluice::grammar {

constexpr char32_t kLastCharacter = 0x10FFFF;

struct CharacterRange {
  char32_t low = 0;
  char32_t high = 0;
  friend auto operator<=>(const CharacterRange&, const CharacterRange&) = default;
};

/// Sorted ranges that do not touch each other. Surrogates are never in a set.
class CharacterSet {
 public:
  CharacterSet() = default;
  static CharacterSet of(char32_t low, char32_t high);
  static CharacterSet of(char32_t character) { return of(character, character); }
  static CharacterSet all() { return of(0, kLastCharacter); }

  void add(char32_t low, char32_t high);
  void add(const CharacterSet& other);
  CharacterSet complement() const;
  /// What is in this set and in `other`.
  CharacterSet common(const CharacterSet& other) const;
  bool has(char32_t character) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<CharacterRange>& ranges() const { return ranges_; }

  friend auto operator<=>(const CharacterSet&, const CharacterSet&) = default;

 private:
  std::vector<CharacterRange> ranges_;
};

/// Bytes of a character's UTF-8, each of a range: every choice of one byte of each is a character.
struct ByteRanges {
  struct Range {
    std::uint8_t low = 0;
    std::uint8_t high = 0;
  };
  std::vector<Range> bytes;  // 1 to 4
};

/// The UTF-8 of exactly the characters of the set.
/// Source: RE2 (re2/compile.cc, AddRuneRangeUTF8).
std::vector<ByteRanges> utf8_of(const CharacterSet& set);

}  // namespace sluice::grammar
