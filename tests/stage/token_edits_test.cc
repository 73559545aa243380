#include "stage/token_edits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace sluice::stage {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr std::int32_t kVocabulary = 20;

/// The edits as logits of 0 become: by token, but for those that stay.
std::map<std::int32_t, float> edited(const Sampling& sampling, const Ids& tokens,
                                     const TokenRules& rules = {}) {
  TokenEdits edits(kVocabulary);
  std::vector<kernels::TokenEdit> room(static_cast<std::size_t>(
      TokenEdits::most(kVocabulary, static_cast<std::int32_t>(tokens.size()), kMaxRuleWords)));
  const Ids words = encode(rules);
  const LogitEdits made = edits.make(sampling, {tokens, TokenRuleView(words)}, room);
  std::map<std::int32_t, float> changes;
  for (const kernels::TokenEdit& one : made.biases) changes[one.token] += one.value;
  for (const kernels::TokenEdit& one : made.others) {
    if (one.value != 0.0F) changes[one.token] -= one.value;
  }
  return changes;
}

std::map<std::int32_t, float> ruled_out(const Ids& tokens) {
  std::map<std::int32_t, float> changes;
  for (const std::int32_t token : tokens) changes[token] = -INFINITY;
  return changes;
}

TEST(TokenEdits, FrequencyAndPresenceCountTheAnswerAlone) {
  Sampling sampling;
  sampling.frequency_penalty = 0.5F;
  sampling.presence_penalty = 0.25F;
  sampling.answer_begin = 3;
  EXPECT_EQ(edited(sampling, {4, 4, 5, 5, 6, 5}),
            (std::map<std::int32_t, float>{{5, -1.25F}, {6, -0.75F}}));
  sampling.answer_begin = 6;
  EXPECT_TRUE(edited(sampling, {4, 4, 5, 5, 6, 5}).empty());
}

TEST(TokenEdits, ARepeatedTokenIsThereOnceWithItsPenalties) {
  Sampling sampling;
  sampling.repetition_penalty = 1.5F;
  sampling.presence_penalty = 1.0F;
  sampling.answer_begin = 2;
  TokenEdits edits(kVocabulary);
  std::vector<kernels::TokenEdit> room(40);
  const Ids tokens = {7, 8, 8, 9, 7, 7};
  for (int again = 0; again < 2; ++again) {  // what the first row leaves does not matter
    const LogitEdits made = edits.make(sampling, {tokens}, room);
    ASSERT_EQ(made.repeated.size(), 3U);
    for (const kernels::TokenEdit& one : made.repeated) EXPECT_EQ(one.value, 1.0F) << one.token;
    EXPECT_TRUE(made.others.empty());
  }
}

TEST(TokenEdits, AnNgramComesOnce) {
  Sampling sampling;
  sampling.no_repeat_ngram = 2;
  EXPECT_EQ(edited(sampling, {1, 2, 3, 1, 4, 1}), ruled_out({2, 4}));
  EXPECT_TRUE(edited(sampling, {1, 2, 3}).empty());
  EXPECT_TRUE(edited(sampling, {1}).empty());
  sampling.no_repeat_ngram = 3;
  EXPECT_EQ(edited(sampling, {1, 2, 3, 1, 2}), ruled_out({3}));
  EXPECT_TRUE(edited(sampling, {1, 2}).empty());
  EXPECT_EQ(edited(sampling, {5, 5, 5}), ruled_out({5}));
  sampling.no_repeat_ngram = 1;
  EXPECT_EQ(edited(sampling, {1, 2, 1}), ruled_out({1, 2}));
}

TEST(TokenEdits, ABannedSequenceLosesItsLastToken) {
  TokenRules rules;
  rules.banned = {{9}, {3, 4}, {1, 3, 5}};
  EXPECT_EQ(edited({}, {1, 2}, rules), ruled_out({9}));
  EXPECT_EQ(edited({}, {2, 3}, rules), ruled_out({9, 4}));
  EXPECT_EQ(edited({}, {7, 1, 3}, rules), ruled_out({9, 4, 5}));
  EXPECT_EQ(edited({}, {1, 3}, rules), ruled_out({9, 4, 5}));
  EXPECT_EQ(edited({}, {3}, rules), ruled_out({9, 4}));
}

TEST(TokenEdits, TokensThatEndTheAnswerWaitForItsLeastLength) {
  Sampling sampling;
  sampling.min_tokens = 2;
  sampling.answer_begin = 1;
  TokenRules rules;
  rules.ends = {2, 0};
  rules.biases = {{0, 5.0F}, {3, -1.0F}};
  auto wanted = ruled_out({2, 0});
  wanted[3] = -1.0F;
  EXPECT_EQ(edited(sampling, {8}, rules), wanted);
  EXPECT_EQ(edited(sampling, {8, 9}, rules), wanted);
  EXPECT_EQ(edited(sampling, {8, 9, 9}, rules),
            (std::map<std::int32_t, float>{{0, 5.0F}, {3, -1.0F}}));
}

}  // namespace
}  // namespace sluice::stage
