#include "grammar/characters.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace sluice::grammar {
namespace {

std::string utf8(char32_t c) {
  std::string text;
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | c >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | c >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
  return text;
}

int ways_to_write(const std::vector<ByteRanges>& all, const std::string& text) {
  int ways = 0;
  for (const ByteRanges& ranges : all) {
    bool fits = ranges.bytes.size() == text.size();
    for (std::size_t i = 0; fits && i < text.size(); ++i) {
      const auto byte = static_cast<std::uint8_t>(text[i]);
      fits = ranges.bytes[i].low <= byte && byte <= ranges.bytes[i].high;
    }
    ways += fits ? 1 : 0;
  }
  return ways;
}

TEST(Characters, RangesThatTouchAreOne) {
  CharacterSet set = CharacterSet::of('a', 'c');
  set.add('d', 'f');
  set.add('x', 'z');
  EXPECT_EQ(set.ranges().size(), 2U);
  EXPECT_TRUE(set.has('e'));
  EXPECT_FALSE(set.has('g'));
}

TEST(Characters, ComplementOfTheComplementIsTheSet) {
  CharacterSet set = CharacterSet::of('a', 'z');
  set.add(0x400, 0x4FF);
  EXPECT_EQ(set.complement().complement(), set);
  EXPECT_EQ(CharacterSet::all().complement(), CharacterSet());
  EXPECT_FALSE(CharacterSet::all().has(0xD800));
}

TEST(Characters, CommonIsInBoth) {
  const CharacterSet common = CharacterSet::of('a', 'm').common(CharacterSet::of('k', 'z'));
  EXPECT_EQ(common, CharacterSet::of('k', 'm'));
}

TEST(Characters, EveryCharacterOfASetIsWrittenInOneWay) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    CharacterSet set;
    for (int i = 0; i < 3; ++i) {
      const auto low = static_cast<char32_t>(random() % 0x11000 * (random() % 16 + 1));
      set.add(low, low + static_cast<char32_t>(random() % 5000));
    }
    const std::vector<ByteRanges> all = utf8_of(set);
    for (char32_t c = 0; c <= kLastCharacter; c += c < 0x3000 ? 1 : 97) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      ASSERT_EQ(ways_to_write(all, utf8(c)), set.has(c) ? 1 : 0) << static_cast<std::uint32_t>(c);
    }
  }
}

TEST(Characters, NoSurrogateIsWritten) {
  EXPECT_EQ(ways_to_write(utf8_of(CharacterSet::all()), "\xED\xA0\x80"), 0);
  EXPECT_EQ(ways_to_write(utf8_of(CharacterSet::all()), "\xED\x9F\xBF"), 1);
}

}  // namespace
}  // namespace sluice::grammar
