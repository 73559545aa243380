#include "launcher/tokenizer/word_scanner.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
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

constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Words scan(const std::string& pattern, std::string_view text) {
  static std::map<std::string, std::unique_ptr<const WordScanner>, std::less<>> scanners;
  if (!scanners.contains(pattern)) scanners.emplace(pattern, WordScanner::of(pattern));
  const WordScanner& scanner = *scanners.at(pattern);
  Words words;
  while (!text.empty()) {
    const std::size_t bytes = scanner.word_bytes(text);
    words.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return words;
}

Words split(std::string_view text) { return scan(std::string(kGpt2Pattern), text); }

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
  EXPECT_EQ(scan(std::string(kLlama3), "IT'S (we) 12345 a\r\n\n b"),
            (Words{"IT", "'S", " (", "we", ")", " ", "123", "45", " a", "\r\n\n", " b"}));
  EXPECT_EQ(scan(std::string(kLlama3), "x ;\n y  \n  z"),
            (Words{"x", " ;\n", " y", "  \n", " ", " z"}));
  EXPECT_EQ(scan(std::string(kQwen2), "a12"), (Words{"a", "1", "2"}));
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
  EXPECT_EQ(scan(std::string(kLlama3), blanks), Words{blanks});
}

TEST(WordScanner, OtherPatternsAreLeftToTheRegexEngine) {
  EXPECT_EQ(WordScanner::of(R"(\p{L}+)"), nullptr);
  EXPECT_EQ(WordScanner::of(""), nullptr);
}

std::string random_text(std::mt19937& random) {
  constexpr const char* kParts[] = {
      "'s",     "'S",     "'re",        "'LL",    "'\u017F", "'",      " ",      "  ",
      "\n",     "\r\n",   "\t",         "a",      "Bc",      "1",      "23",     ".",
      "!?",     "\u00E9", "\u0301",     "\u4E2D", "\u0661",  "\u00BD", "\u00A0", "\u3000",
      "\u200B", "_",      "\U0001F600", "/",      "\u180E",  "\u0085", "A",      "BC",
      "\u01C5", "\u02B0", "\u0300",     "\u3042", "\u30A2",  "\u9FA5", "\u9FA6", "|",
      "(",      ")",      "\u2026",     "\u3002", "\u06D4",  "\u0001", "\uFEFF", "\U0001D7D8"};
  std::string text;
  for (auto i = random() % 30; i > 0; --i) text += kParts[random() % std::size(kParts)];
  for (auto i = random() % 4; i > 0; --i) {
    const auto character = static_cast<char32_t>(random() % 0x32000);
    if (character < 0xD800 || character >= 0xE000) append_character(text, character);
  }
  return text;
}

/// Matches, and what lies between them.
Words words_of(const Regex& regex, const std::string& text) {
  Words words;
  std::size_t done = 0;
  const auto add = [&](std::size_t end) {
    if (end > done) words.push_back(text.substr(done, end - done));
    done = end;
  };
  regex.each(text, [&](Regex::Match match) {
    add(match.begin);
    add(match.end);
  });
  add(text.size());
  return words;
}

/// The patterns of the tokenizers of tests/data, and others that are published.
std::vector<std::string> known_patterns() {
  std::vector<std::string> patterns = {std::string(kGpt2Pattern), std::string(kLlama3),
                                       std::string(kQwen2), std::string(kQwen35), kTekken};
  for (const char* name : {"o200k-style", "deepseek-style", "bloom-style", "llama3-style"}) {
    std::ifstream file(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/tokenizers" / name /
                       "tokenizer.json");
    const auto tokenizer = nlohmann::json::parse(file);
    for (const auto& step : tokenizer.at("pre_tokenizer").at("pretokenizers")) {
      if (step.at("type") != "Split") continue;
      patterns.push_back(step.at("pattern").at("Regex").get<std::string>());
    }
  }
  return patterns;
}

TEST(WordScanner, AgreesWithTheRegexEngine) {
  std::mt19937 random(11);
  const std::vector<std::string> patterns = known_patterns();
  ASSERT_EQ(patterns.size(), 11U);
  for (const std::string& pattern : patterns) {
    const Regex regex(pattern, "test");
    ASSERT_NE(WordScanner::of(pattern), nullptr) << pattern;
    for (int i = 0; i < 6000; ++i) {
      const std::string text = random_text(random);
      ASSERT_EQ(scan(pattern, text), words_of(regex, text)) << pattern << ": " << text;
    }
  }
}

// One character after the other, with a letter, a blank and a sign around it.
TEST(WordScanner, AgreesWithTheRegexEngineOnEveryCharacter) {
  for (const std::string& pattern : known_patterns()) {
    const Regex regex(pattern, "test");
    std::string text;
    for (char32_t c = 0; c < 0x32000; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      text += c % 3 == 0 ? "Aa" : c % 3 == 1 ? " " : ".";
      append_character(text, c);
    }
    EXPECT_TRUE(scan(pattern, text) == words_of(regex, text)) << pattern;
  }
}

}  // namespace
}  // namespace sluice::launcher
