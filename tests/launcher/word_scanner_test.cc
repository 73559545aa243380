#include "launcher/tokenizer/word_scanner.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "launcher/tokenizer/regex.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

using Words = std::vector<std::string>;

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|)"
    R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Words scan(std::string_view pattern, std::string_view text) {
  static std::map<std::string_view, WordScanner> scanners;
  if (!scanners.contains(pattern)) scanners.emplace(pattern, WordScanner::of(pattern).value());
  const WordScanner& scanner = scanners.at(pattern);
  Words words;
  while (!text.empty()) {
    const std::size_t bytes = scanner.word_bytes(text);
    words.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return words;
}

Words split(std::string_view text) { return scan(kGpt2Pattern, text); }

TEST(WordScanner, FollowsGpt2sPattern) {
  EXPECT_EQ(split(""), Words{});
  EXPECT_EQ(split("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(split("a   b"), (Words{"a", "  ", " b"}));
  EXPECT_EQ(split("a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(split("end  "), (Words{"end", "  "}));
  EXPECT_EQ(split("it's we'll IT'S"), (Words{"it", "'s", " we", "'ll", " IT", "'", "S"}));
  EXPECT_EQ(split("x12 34.5!?"), (Words{"x", "12", " 34", ".", "5", "!?"}));
  EXPECT_EQ(split("caf\xC3\xA9 \xE4\xB8\xAD"), (Words{"caf\xC3\xA9", " \xE4\xB8\xAD"}));
  EXPECT_EQ(split(std::string("\0a", 2)), (Words{std::string("\0", 1), "a"}));
}

TEST(WordScanner, FollowsLlama3sPattern) {
  EXPECT_EQ(scan(kLlama3, "IT'S (we) 12345 a\r\n\n b"),
            (Words{"IT", "'S", " (", "we", ")", " ", "123", "45", " a", "\r\n\n", " b"}));
  EXPECT_EQ(scan(kLlama3, "x ;\n y  \n  z"), (Words{"x", " ;\n", " y", "  \n", " ", " z"}));
  EXPECT_EQ(scan(kQwen2, "a12"), (Words{"a", "1", "2"}));
}

/// "a <character>b": a blank is cut off on its own, a letter joins both, a number or sign stands
/// alone.
Words around(char32_t character) {
  std::string text = "a ";
  append_character(text, character);
  return split(text + "b");
}

TEST(WordScanner, BlanksAreUnicodesWhiteSpace) {
  std::vector<char32_t> blanks = {'\t', '\n',   0xB,    0xC,    '\r',   ' ',    0x85,
                                  0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
  for (char32_t c = 0x2000; c <= 0x200A; ++c) blanks.push_back(c);
  for (const char32_t blank : blanks) {
    EXPECT_EQ(around(blank)[1], " ") << static_cast<std::uint32_t>(blank);
  }
  for (const char32_t other : {0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0xFEFF}) {
    EXPECT_GT(around(other)[1].size(), 1U) << static_cast<std::uint32_t>(other);
  }
}

TEST(WordScanner, KnowsTheLettersAndNumbersOfUnicode16) {
  for (const char32_t letter : {0x11240, 0x11F02, 0x1DF2A, 0x1E030, 0x1E4EB, 0x31350, 0x323AF,
                                0x2EBF0, 0x1C89, 0xA7DA, 0x105C0, 0x1E5D0}) {
    EXPECT_EQ(around(letter).size(), 2U) << static_cast<std::uint32_t>(letter);
  }
  for (const char32_t number : {0x11F50, 0x1D2C0, 0x1E4F9, 0x10D40}) {
    std::string digits = "1";
    append_character(digits, number);
    EXPECT_EQ(split(digits).size(), 1U) << static_cast<std::uint32_t>(number);
  }
}

TEST(WordScanner, EveryCharacterIsInSomeWord) {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c >= 0xE000) append_character(text, c);
  }
  std::string joined;
  for (const std::string& word : split(text)) joined += word;
  EXPECT_EQ(joined, text);
}

TEST(WordScanner, FiveMegabytesOfBlanks) {
  const std::string blanks(5 << 20, ' ');
  EXPECT_EQ(split(blanks), Words{blanks});
  EXPECT_EQ(split(blanks + "a"), (Words{blanks.substr(1), " a"}));
  EXPECT_EQ(scan(kLlama3, blanks), Words{blanks});
}

TEST(WordScanner, OtherPatternsAreLeftToTheRegexEngine) {
  EXPECT_FALSE(WordScanner::of(R"(\p{L}+)").has_value());
  EXPECT_FALSE(WordScanner::of("").has_value());
}

std::string random_text(std::mt19937& random) {
  constexpr const char* kParts[] = {
      "'s",     "'S",     "'re",        "'LL",    "'\u017F", "'",      " ",      "  ",
      "\n",     "\r\n",   "\t",         "a",      "Bc",      "1",      "23",     ".",
      "!?",     "\u00E9", "\u0301",     "\u4E2D", "\u0661",  "\u00BD", "\u00A0", "\u3000",
      "\u200B", "_",      "\U0001F600", "/",      "\u180E",  "\u0085"};
  std::string text;
  for (auto i = random() % 30; i > 0; --i) text += kParts[random() % std::size(kParts)];
  for (auto i = random() % 4; i > 0; --i) {
    const auto character = static_cast<char32_t>(random() % 0x32000);
    if (character < 0xD800 || character >= 0xE000) append_character(text, character);
  }
  return text;
}

TEST(WordScanner, AgreesWithTheRegexEngine) {
  std::mt19937 random(11);
  for (const std::string_view pattern : {kGpt2Pattern, kLlama3, kQwen2, kQwen35}) {
    const Regex regex(std::string(pattern), "test");
    for (int i = 0; i < 4000; ++i) {
      const std::string text = random_text(random);
      Words words;
      regex.each(text, [&](Regex::Match match) {
        words.push_back(text.substr(match.begin, match.end - match.begin));
      });
      ASSERT_EQ(scan(pattern, text), words) << pattern << ": " << text;
    }
  }
}

}  // namespace
}  // namespace sluice::launcher
