#include "launcher/tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::launcher {
namespace {

const std::string kBad(kReplacement);

TEST(Utf8, EveryCharacterIsWholeAndComesBack) {
  for (char32_t character = 0; character < 0x110000; ++character) {
    if (character >= 0xD800 && character < 0xE000) continue;
    std::string text;
    append_character(text, character);
    ASSERT_EQ(first_part(text).kind, Utf8::character) << text;
    ASSERT_EQ(first_part(text).bytes, text.size()) << text;
    ASSERT_TRUE(first_character(text) == character) << text;
    ASSERT_EQ(count_characters(text), 1U);
  }
}

TEST(Utf8, EachMaximalBrokenPartIsOneReplacement) {
  // What Python's bytes.decode("utf-8", errors="replace") gives.
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"abc", "abc"},
      {"\x80", kBad},
      {"a\x80\x80z", "a" + kBad + kBad + "z"},
      {"\xC3", kBad},
      {"\xC3(", kBad + "("},
      {"\xE2\x82", kBad},
      {"\xE2\x82x", kBad + "x"},
      {"\xE2\x28\xA1", kBad + "(" + kBad},
      {"\xF0\x9F\x98", kBad},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", kBad + "\xF0\x9F\x98\x80"},
      {"\xC0\x80", kBad + kBad},
      {"\xE0\x80\x80", kBad + kBad + kBad},
      {"\xED\xA0\x80", kBad + kBad + kBad},             // a surrogate
      {"\xF4\x90\x80\x80", kBad + kBad + kBad + kBad},  // above U+10FFFF
      {"\xF5\x80", kBad + kBad},
      {"\xFF\xFE", kBad + kBad},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(replace_broken(bytes), text) << bytes;
}

TEST(Utf8, TakeWholeKeepsACharacterThatIsCut) {
  std::string bytes = "a\xE2\x82";
  EXPECT_EQ(take_whole(bytes), "a");
  EXPECT_EQ(bytes, "\xE2\x82");
  bytes += "\xAC\xC3";
  EXPECT_EQ(take_whole(bytes), "\xE2\x82\xAC");
  bytes += "!";
  EXPECT_EQ(take_whole(bytes), kBad + "!");
  EXPECT_TRUE(bytes.empty());
}

TEST(Utf8, AnyCutGivesTheSameText) {
  const std::string bytes = "x\xE2\x82\xAC\xF0\x9F\x98\x80\xED\xA0\x80\xC3\xC3\xA9\xF0\x9F";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    std::string held = bytes.substr(0, cut);
    std::string text = take_whole(held);
    held += bytes.substr(cut);
    text += take_whole(held);
    text += replace_broken(held);
    EXPECT_EQ(text, replace_broken(bytes)) << cut;
  }
}

TEST(Utf8, ValidityAgreesWithReplacing) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8("a\xC3\xA9\xF0\x9F\x98\x80"));
  for (const char* bytes : {"\xC3", "\x80", "\xED\xA0\x80", "a\xC3"}) {
    EXPECT_FALSE(is_valid_utf8(bytes));
  }
}

}  // namespace
}  // namespace sluice::launcher
