#include "launcher/tokenizer/word_splitter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

using Words = std::vector<std::string>;

Words split(const WordSplitter& splitter, const std::string& text) {
  Words words;
  splitter.cut(text, [&](std::string_view piece) {
    splitter.split(piece, [&](std::string_view word) { words.emplace_back(word); });
  });
  return words;
}

TEST(WordSplitter, FollowsGpt2sPattern) {
  const WordSplitter splitter;
  EXPECT_EQ(split(splitter, ""), Words{});
  EXPECT_EQ(split(splitter, "Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(split(splitter, "a   b"), (Words{"a", "  ", " b"}));
  EXPECT_EQ(split(splitter, "a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(split(splitter, "end  "), (Words{"end", "  "}));
  EXPECT_EQ(split(splitter, "it's we'll IT'S"), (Words{"it", "'s", " we", "'ll", " IT", "'", "S"}));
  EXPECT_EQ(split(splitter, "x12 34.5!?"), (Words{"x", "12", " 34", ".", "5", "!?"}));
  EXPECT_EQ(split(splitter, "caf\xC3\xA9 \xE4\xB8\xAD"), (Words{"caf\xC3\xA9", " \xE4\xB8\xAD"}));
  EXPECT_EQ(split(splitter, std::string("\0a", 2)), (Words{std::string("\0", 1), "a"}));
}

/// "a<character>b": a blank is cut off on its own, a letter joins both, a number or sign stands
/// alone.
Words around(const WordSplitter& splitter, char32_t character) {
  std::string text = "a ";
  append_character(text, character);
  return split(splitter, text + "b");
}

TEST(WordSplitter, BlanksAreUnicodesWhiteSpace) {
  const WordSplitter splitter;
  std::vector<char32_t> blanks = {'\t', '\n',   0xB,    0xC,    '\r',   ' ',    0x85,
                                  0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
  for (char32_t c = 0x2000; c <= 0x200A; ++c) blanks.push_back(c);
  for (const char32_t blank : blanks) {
    EXPECT_EQ(around(splitter, blank)[1], " ") << static_cast<std::uint32_t>(blank);
  }
  for (const char32_t other : {0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0xFEFF}) {
    EXPECT_GT(around(splitter, other)[1].size(), 1U) << static_cast<std::uint32_t>(other);
  }
}

TEST(WordSplitter, KnowsTheLettersAndNumbersOfUnicode15) {
  const WordSplitter splitter;
  for (const char32_t letter : {0x11240, 0x11F02, 0x1DF2A, 0x1E030, 0x1E4EB, 0x31350, 0x323AF}) {
    EXPECT_EQ(around(splitter, letter).size(), 2U) << static_cast<std::uint32_t>(letter);
  }
  for (const char32_t number : {0x11F50, 0x1D2C0, 0x1E4F9}) {
    std::string digits = "1";
    append_character(digits, number);
    EXPECT_EQ(split(splitter, digits).size(), 1U) << static_cast<std::uint32_t>(number);
  }
}

TEST(WordSplitter, EveryCharacterIsInSomeWord) {
  const WordSplitter splitter;
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c >= 0xE000) append_character(text, c);
  }
  std::string joined;
  splitter.split(text, [&](std::string_view word) { joined += word; });
  EXPECT_EQ(joined, text);
}

TEST(WordSplitter, FiveMegabytesOfBlanks) {
  const WordSplitter splitter;
  const std::string blanks(5 << 20, ' ');
  EXPECT_EQ(split(splitter, blanks), Words{blanks});
  EXPECT_EQ(split(splitter, blanks + "a"), (Words{blanks.substr(1), " a"}));
}

TEST(WordSplitter, SingleDigitsAreCutOutFirst) {
  const WordSplitter splitter({.removed = "", .single_digits = true, .words = true});
  EXPECT_EQ(split(splitter, "x12 34 y"), (Words{"x", "1", "2", " ", "3", "4", " y"}));
  EXPECT_EQ(split(splitter, "no digits"), (Words{"no", " digits"}));
  EXPECT_EQ(split(splitter, ""), Words{});
}

TEST(WordSplitter, ATextIsCutOutBeforeAllElse) {
  const WordSplitter splitter({.removed = " 1", .single_digits = true, .words = true});
  EXPECT_EQ(split(splitter, "a 12b 1 1"), (Words{"a", "2", "b"}));
}

TEST(WordSplitter, WithoutThePatternAPieceIsAWord) {
  const WordSplitter splitter({.removed = "", .single_digits = true, .words = false});
  EXPECT_EQ(split(splitter, "two words 3 four"), (Words{"two words ", "3", " four"}));
  EXPECT_EQ(split(splitter, ""), Words{});
}

TEST(WordSplitter, WordCharacters) {
  for (const char* word : {"a", "Z", "7", "_", "\u00E9", "\u4E2D", "\u0301", "\u203F", "\u200C",
                           "\u0661", "\u2160", "ab", "a "}) {
    EXPECT_TRUE(is_word_character(word)) << word;
  }
  for (const char* other : {" ", "-", ".", "\n", "\u00BD", "\u2014", "\u3000", "\u20AC", " a"}) {
    EXPECT_FALSE(is_word_character(other)) << other;
  }
}

}  // namespace
}  // namespace sluice::launcher
