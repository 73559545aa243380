#include "stage/token_rules.h"

#include <gtest/gtest.h>

namespace sluice::stage {
namespace {

using Ids = std::vector<std::int32_t>;

TokenRules some_rules() {
  TokenRules rules;
  rules.biases = {{3, -1.5F}, {0, 100.0F}};
  rules.banned = {{7}, {1, 2, 3}};
  rules.ends = {2, 9};
  return rules;
}

TEST(TokenRules, AreReadAsWritten) {
  const Ids words = encode(some_rules());
  ASSERT_TRUE(are_rules(words, 10));
  const TokenRuleView view(words);
  ASSERT_EQ(view.bias_count(), 2);
  EXPECT_EQ(view.bias(0).token, 3);
  EXPECT_EQ(view.bias(0).bias, -1.5F);
  EXPECT_EQ(view.bias(1).token, 0);
  std::vector<Ids> banned;
  view.for_each_banned(
      [&](std::span<const std::int32_t> one) { banned.emplace_back(one.begin(), one.end()); });
  EXPECT_EQ(banned, (std::vector<Ids>{{7}, {1, 2, 3}}));
  EXPECT_EQ(Ids(view.ends().begin(), view.ends().end()), (Ids{2, 9}));
}

TEST(TokenRules, NoneTakeNoNumbers) {
  EXPECT_TRUE(encode({}).empty());
  EXPECT_TRUE(are_rules({}, 10));
  EXPECT_TRUE(TokenRuleView().empty());
  EXPECT_TRUE(TokenRuleView(std::span<const std::int32_t>()).empty());
}

TEST(TokenRules, DamagedOnesAreSeen) {
  const Ids words = encode(some_rules());
  for (std::size_t size = 1; size < words.size(); ++size) {
    EXPECT_FALSE(are_rules(std::span(words).first(size), 10)) << size;
  }
  EXPECT_FALSE(are_rules(words, 9)) << "a token beyond the vocabulary";
  for (const std::size_t count : {0U, 1U, 2U}) {
    for (const std::int32_t value : {-1, 1, 3, INT32_MAX}) {
      Ids changed = words;
      changed[count] = value;
      EXPECT_FALSE(are_rules(changed, 10)) << count << ' ' << value;
    }
  }
  for (const std::int32_t size : {0, -1, 4, INT32_MAX}) {
    Ids changed = words;
    changed[7] = size;  // of the first banned sequence
    EXPECT_FALSE(are_rules(changed, 10)) << size;
  }
}

}  // namespace
}  // namespace sluice::stage
