#include "launcher/structured/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <string>
#include <vector>

#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/structured_answer.h"
#include "tests/launcher/structured/written_texts.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

std::string refusal(std::string_view pattern) {
  try {
    pattern_program(pattern);
  } catch (const GrammarProblem& problem) {
    return problem.what();
  }
  return "";
}

TEST(Pattern, MatchesTheWholeText) {
  EXPECT_TRUE(fits(pattern_program("[A-C][0-9]{2}"), "B07"));
  EXPECT_FALSE(fits(pattern_program("[A-C][0-9]{2}"), "xB07"));
  EXPECT_TRUE(fits(pattern_program("^(?:yes|no)$"), "yes"));
  EXPECT_TRUE(fits(pattern_program("a|b$|^c"), "c"));
  EXPECT_FALSE(fits(pattern_program("ab?"), "abb"));
}

TEST(Pattern, KnowsCharactersOfManyBytes) {
  EXPECT_TRUE(fits(pattern_program("[à-ü]+"), "éà"));
  EXPECT_TRUE(fits(pattern_program(".{2}"), "€\U0001F600"));
  EXPECT_FALSE(fits(pattern_program("."), "\xC3"));
  EXPECT_TRUE(fits(pattern_program("\\uD83D\\uDE00"), "\U0001F600"));
  EXPECT_TRUE(fits(pattern_program("\\u{1F600}\\x41"), "\U0001F600A"));
}

TEST(Pattern, RefusesByNameWhatNoAutomatonCanDo) {
  EXPECT_THAT(refusal("(a)\\1"), HasSubstr("back reference"));
  EXPECT_THAT(refusal("(?=a)b"), HasSubstr("look-ahead"));
  EXPECT_THAT(refusal("(?<!a)b"), HasSubstr("look-behind"));
  EXPECT_THAT(refusal("\\bword"), HasSubstr("word boundary"));
  EXPECT_THAT(refusal("\\p{L}"), HasSubstr("\\p"));
  EXPECT_THAT(refusal("(?i)a"), HasSubstr("flags"));
  EXPECT_THAT(refusal("a^b"), HasSubstr("anchor '^'"));
  EXPECT_THAT(refusal("(a$)"), HasSubstr("anchor '$'"));
  EXPECT_THAT(refusal("a\\Z"), HasSubstr("\\Z"));
}

TEST(Pattern, SaysWhatIsWrittenWrong) {
  EXPECT_THAT(refusal("(ab"), HasSubstr("has a '(' without its ')' (at character 4)"));
  EXPECT_THAT(refusal("ab)"), HasSubstr("')' without its '('"));
  EXPECT_THAT(refusal("[ab"), HasSubstr("'[' without its ']'"));
  EXPECT_THAT(refusal("[z-a]"), HasSubstr("whose end is before its begin"));
  EXPECT_THAT(refusal("a{3,2}"), HasSubstr("m is below its n"));
  EXPECT_THAT(refusal("*a"), HasSubstr("nothing in front to repeat"));
  EXPECT_THAT(refusal("a**"), HasSubstr("behind another quantifier"));
  EXPECT_THAT(refusal("a\\"), HasSubstr("ends with a single"));
  EXPECT_THAT(refusal("[]"), HasSubstr("empty class"));
  EXPECT_THAT(refusal("a{9999999}"), HasSubstr("a number above"));
}

std::string random_pattern(std::mt19937& random, int depth) {
  static constexpr const char* kAtoms[] = {"a",    "b",   "c",      ".",   "[ab]",
                                           "[^a]", "\\d", "[a-c1]", "\\w", "\\s"};
  switch (depth == 0 ? 0 : random() % 5) {
    case 0:
      return kAtoms[random() % std::size(kAtoms)];
    case 1:
      return "(?:" + random_pattern(random, depth - 1) + "|" + random_pattern(random, depth - 1) +
             ")";
    case 2: {
      static constexpr const char* kCopies[] = {"*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"};
      return "(" + random_pattern(random, depth - 1) + ")" + kCopies[random() % std::size(kCopies)];
    }
    default:
      return random_pattern(random, depth - 1) + random_pattern(random, depth - 1);
  }
}

TEST(Pattern, RandomPatternsMatchWhatTheStandardLibraryMatches) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const std::string pattern = random_pattern(random, 4);
    grammar::Matcher matcher(pattern_program(pattern));
    const std::regex oracle(pattern, std::regex::ECMAScript);
    for (int i = 0; i < 60; ++i) {
      std::string text;
      for (std::size_t size = random() % 7; text.size() < size;) text += "abc1 _"[random() % 6];
      ASSERT_EQ(fits(matcher, text), std::regex_match(text, oracle)) << pattern << " | " << text;
    }
    for (int i = 0; i < 5; ++i) {
      const std::string text = written(matcher, random);
      const bool ascii = std::ranges::all_of(text, [](char c) { return c > 0; });
      if (!ascii || text.empty()) continue;
      ASSERT_TRUE(std::regex_match(text, oracle)) << pattern << " | " << text;
    }
  }
}

}  // namespace
}  // namespace sluice::launcher
