#include "launcher/tokenizer/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using Words = std::vector<std::string>;

Words matches(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern, "test");
  Words words;
  regex.each(text, [&](Regex::Match match) {
    words.push_back(text.substr(match.begin, match.end - match.begin));
  });
  return words;
}

TEST(Regex, FindsMatchesFromLeftToRight) {
  EXPECT_EQ(matches("a+", "baacab"), (Words{"aa", "a"}));
  EXPECT_EQ(matches("x", ""), Words{});
  EXPECT_EQ(matches(R"(\p{N}{1,3})", "12345"), (Words{"123", "45"}));
}

TEST(Regex, AnEmptyMatchBehindAnotherDoesNotCount) {
  EXPECT_EQ(matches("a*", "baac"), (Words{"", "aa", ""}));
  EXPECT_EQ(matches("", "ab"), (Words{"", "", ""}));
}

TEST(Regex, AClassMayStandInAClass) {
  EXPECT_EQ(matches(R"( ?[^(\s|[.,!?])]+)", "(ab, c)"), (Words{"ab", " c"}));
}

TEST(Regex, WhatIsNoExpressionIsRefusedByName) {
  EXPECT_THAT([] { Regex("(a", "file: key"); },
              ThrowsMessage<InputError>(testing::AllOf(HasSubstr("file: key"), HasSubstr("(a"))));
  EXPECT_THROW(Regex(std::string(1 << 17, 'a'), "test"), InputError);
  EXPECT_THROW(Regex(R"(\p{Nonsense})", "test"), InputError);
}

TEST(Regex, BacktrackingIsBounded) {
  const std::string text = std::string(60, 'a') + "b";
  EXPECT_THAT([&] { matches("(a|aa)+$", text); }, ThrowsMessage<InputError>(HasSubstr("(a|aa)+$")));
  // Each place of the text would look at all that follows.
  EXPECT_THROW(matches("a(?=.*b)|a", std::string(1 << 18, 'a')), InputError);
}

TEST(Regex, LongRunsAreNoCatastrophe) {
  const std::string blanks(3 << 20, ' ');
  EXPECT_EQ(matches(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", blanks + "a"), (Words{blanks.substr(1), " "}));
}

TEST(CharacterSet, WordCharacters) {
  for (const char* word : {"a", "Z", "7", "_", "\u00E9", "\u4E2D", "\u0301", "\u203F", "\u200C",
                           "\u0661", "\u2160", "ab", "a "}) {
    EXPECT_TRUE(is_word_character(word)) << word;
  }
  for (const char* other : {" ", "-", ".", "\n", "\u00BD", "\u2014", "\u3000", "\u20AC", " a"}) {
    EXPECT_FALSE(is_word_character(other)) << other;
  }
}

TEST(CharacterSet, KnowsUnicode16) {
  EXPECT_TRUE(letters().contains(0x1C89));
  EXPECT_TRUE(letters().contains(0x31350));
  EXPECT_TRUE(numbers().contains(0x1E4F0));
  EXPECT_FALSE(letters().contains(0x1C8B));
  EXPECT_TRUE(punctuation().contains('$'));
  EXPECT_FALSE(punctuation().contains(0x20AC));
}

}  // namespace
}  // namespace sluice::launcher
