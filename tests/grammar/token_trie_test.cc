#include "grammar/token_trie.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/grammar/reading.h"

namespace sluice::grammar {
namespace {

bool has(const Mask& mask, std::int32_t token) {
  return (mask[static_cast<std::size_t>(token) / 32] >> (token % 32) & 1) != 0;
}

std::vector<std::string> random_tokens(std::mt19937& random, std::size_t count) {
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < count; ++i) {
    std::string token;
    for (std::size_t size = random() % 5; token.size() < size;) {
      token += static_cast<char>('a' + random() % 3);
    }
    tokens.push_back(token);
  }
  return tokens;
}

TEST(TokenTrie, AMaskHasTheTokensThatTheMatcherReads) {
  std::mt19937 random(7);
  Builder builder;
  const Node ab = builder.repeat(builder.text("ab"), 0, Builder::kUnbounded);
  const Node body = builder.sequence({ab, builder.repeat(builder.text("c"), 0, 3)});
  Matcher matcher(program_of(builder, body));
  const std::vector<std::string> tokens = random_tokens(random, 500);
  const TokenTrie trie(tokens);
  Mask mask(trie.mask_words());
  for (const char* begun : {"", "a", "ab", "abc", "abccc"}) {
    const Matcher::State state = state_behind(matcher, begun);
    trie.allowed(matcher, state, mask);
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      const auto token = static_cast<std::int32_t>(id);
      const bool alive =
          !tokens[id].empty() && state_behind(matcher, begun + tokens[id]) != Matcher::kDead;
      ASSERT_EQ(has(mask, token), alive) << begun << '|' << tokens[id];
      EXPECT_EQ(trie.next(matcher, state, token) != Matcher::kDead, alive);
    }
  }
}

TEST(TokenTrie, EndTokensAreAllowedWhereTheTextMayEndAndNowhereElse) {
  Builder builder;
  Program program = program_of(builder, builder.choice({builder.text("a"), builder.text("aab")}));
  program.end_tokens = {1, 3};  // 3 has bytes that would fit
  Matcher matcher(program);
  const TokenTrie trie({"a", "", "b", "a", "aa"});
  Mask mask(trie.mask_words());
  EXPECT_TRUE(trie.allowed(matcher, matcher.start(), mask));
  EXPECT_EQ(mask, (Mask{0b10001}));
  EXPECT_TRUE(trie.allowed(matcher, state_behind(matcher, "a"), mask));
  EXPECT_EQ(mask, (Mask{0b01011}));
  EXPECT_TRUE(trie.allowed(matcher, state_behind(matcher, "aab"), mask));
  EXPECT_EQ(mask, (Mask{0b01010}));
}

TEST(TokenTrie, WithoutATokenForTheNextByteNothingIsAllowed) {
  Builder builder;
  Matcher matcher(program_of(builder, builder.text("xy")));
  const TokenTrie trie({"a", "x"});
  Mask mask(trie.mask_words());
  EXPECT_TRUE(trie.allowed(matcher, matcher.start(), mask));
  EXPECT_FALSE(trie.allowed(matcher, state_behind(matcher, "x"), mask));
}

TEST(TokenTrie, ATokenMayEndInsideACharacter) {
  Builder builder;
  Matcher matcher(program_of(builder, builder.character(CharacterSet::of(0x20AC))));  // E2 82 AC
  const TokenTrie trie({"\xE2\x82", "\xAC", "\xE2\x82\xAC", "\xE2\x83"});
  Mask mask(trie.mask_words());
  trie.allowed(matcher, matcher.start(), mask);
  EXPECT_EQ(mask, (Mask{0b0101}));
  trie.allowed(matcher, trie.next(matcher, matcher.start(), 0), mask);
  EXPECT_EQ(mask, (Mask{0b0010}));
}

}  // namespace
}  // namespace sluice::grammar
