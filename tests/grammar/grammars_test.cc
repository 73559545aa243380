#include "grammar/grammars.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "tests/grammar/reading.h"

namespace sluice::grammar {
namespace {

constexpr std::size_t kRoom = std::size_t{1} << 20;

Program copies_of(const char* text, std::int64_t least, std::int64_t most) {
  Builder builder;
  return program_of(builder, builder.repeat(builder.text(text), least, most));
}

std::vector<std::string> bytes_as_tokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  return tokens;
}

Mask masked(std::span<const std::uint32_t> allowed) { return {allowed.begin(), allowed.end()}; }

TEST(Grammars, AMaskIsMadeOnceForEachState) {
  const TokenTrie trie(bytes_as_tokens());
  Grammars grammars(trie, kRoom);
  grammars.define(0, copies_of("ab", 1, Builder::kUnbounded));
  const std::vector<std::int32_t> answer = {'a', 'b', 'a', 'b', 'a', 'b', 'a', 'b'};
  Place place;
  for (std::size_t i = 0; i <= answer.size(); ++i) {
    EXPECT_FALSE(grammars.allowed(0, std::span(answer).first(i), place).empty());
  }
  EXPECT_EQ(grammars.counts().masks, 9U);
  EXPECT_LE(grammars.counts().masks_made, 4U);
}

TEST(Grammars, ARowThatComesWithTokensIsReadFromItsBegin) {
  const TokenTrie trie(bytes_as_tokens());
  Grammars grammars(trie, kRoom);
  grammars.define(0, copies_of("abc", 2, 2));
  const std::vector<std::int32_t> answer = {'a', 'b', 'c', 'a'};
  Place fresh;
  const Mask at_once = masked(grammars.allowed(0, answer, fresh));
  Place place;
  Mask step_by_step;
  for (std::size_t i = 0; i <= answer.size(); ++i) {
    step_by_step = masked(grammars.allowed(0, std::span(answer).first(i), place));
  }
  EXPECT_EQ(at_once, step_by_step);
  EXPECT_EQ(at_once['b' / 32], 1U << ('b' % 32));
}

TEST(Grammars, WithoutRoomMasksAreMadeAgainAndAreTheSame) {
  const TokenTrie trie(bytes_as_tokens());
  Grammars roomy(trie, kRoom);
  Grammars narrow(trie, 256);
  std::vector<std::vector<std::int32_t>> answers(4);
  std::vector<Place> roomy_places(answers.size());
  std::vector<Place> narrow_places(answers.size());
  const char* texts[] = {"abc", "xy", "a", "hello"};
  for (std::int32_t i = 0; i < 4; ++i) {
    roomy.define(i, copies_of(texts[i], 5, 9));
    narrow.define(i, copies_of(texts[i], 5, 9));
  }
  for (int step = 0; step < 40; ++step) {
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const auto number = static_cast<std::int32_t>(i);
      const Mask allowed = masked(roomy.allowed(number, answers[i], roomy_places[i]));
      ASSERT_EQ(masked(narrow.allowed(number, answers[i], narrow_places[i])), allowed);
      const std::string text = texts[i];
      if (!allowed.empty()) answers[i].push_back(text[answers[i].size() % text.size()]);
    }
  }
  EXPECT_GT(narrow.counts().masks_made, roomy.counts().masks_made);
}

TEST(Grammars, ANumberMeansTheProgramThatCameLast) {
  const TokenTrie trie(bytes_as_tokens());
  Grammars grammars(trie, kRoom);
  grammars.define(1, copies_of("a", 1, 1));
  Place place;
  EXPECT_EQ(grammars.allowed(1, {}, place)['a' / 32], 1U << ('a' % 32));
  grammars.define(1, copies_of("b", 1, 1));
  EXPECT_EQ(grammars.allowed(1, {}, place)['b' / 32], 1U << ('b' % 32));
}

TEST(Grammars, WhereNothingIsAllowedTheMaskIsEmpty) {
  const TokenTrie trie({"a"});
  Grammars grammars(trie, kRoom);
  grammars.define(0, copies_of("ab", 1, 1));
  const std::vector<std::int32_t> answer = {0};
  Place place;
  EXPECT_TRUE(grammars.allowed(0, answer, place).empty());
  EXPECT_TRUE(grammars.allowed(0, answer, place).empty());
}

TEST(Grammars, ANumberThatNeverCameIsABug) {
  const TokenTrie trie({"a"});
  Grammars grammars(trie, kRoom);
  Place place;
  EXPECT_THROW(grammars.allowed(3, {}, place), CommError);
}

}  // namespace
}  // namespace sluice::grammar
