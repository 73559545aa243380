// Tokens that a look-up of guesses takes for each other.
#include "launcher/generate/alike_tokens.h"

#include <gtest/gtest.h>

namespace sluice::launcher {
namespace {

TEST(AlikeTokens, DifferInBlanksInFront) {
  const Tokenizer tokenizer = Tokenizer::open(SLUICE_SOURCE_DIR "/models/demo");
  const std::int32_t more = tokenizer.size() + 3;
  const std::vector<std::int32_t> alike = alike_tokens(tokenizer, more);
  ASSERT_EQ(alike.size(), static_cast<std::size_t>(more));
  std::int32_t merged = 0;
  for (std::int32_t id = 0; id < more; ++id) {
    const std::int32_t other = alike[static_cast<std::size_t>(id)];
    ASSERT_LE(other, id);
    if (other == id) continue;
    ++merged;
    const std::string& text = tokenizer.token_bytes(id);
    const std::string& others = tokenizer.token_bytes(other);
    const std::string& longer = text.size() > others.size() ? text : others;
    const std::string& shorter = text.size() > others.size() ? others : text;
    EXPECT_TRUE(longer.ends_with(shorter)) << id;
    EXPECT_EQ(longer.find_first_not_of(' '), longer.size() - shorter.size()) << id;
  }
  EXPECT_GT(merged, 26) << "each capital letter stands behind a blank, too";
}

TEST(AlikeTokens, WithoutTextsEachIsItself) {
  const std::vector<std::int32_t> alike = alike_tokens(Tokenizer::of_ids(8, 0, 1, 2), 8);
  for (std::int32_t id = 0; id < 8; ++id) EXPECT_EQ(alike[static_cast<std::size_t>(id)], id);
}

}  // namespace
}  // namespace sluice::launcher
