#include "launcher/jobs/answer.h"

#include <gtest/gtest.h>

#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using Ids = std::vector<std::int32_t>;
using support::byte_id;
using support::kFirstMerge;

constexpr std::int32_t kEos = 2;

class AnswerTest : public testing::Test {
 protected:
  void SetUp() override {
    row_.prompt = {2, byte_id('p')};
    row_.max_tokens = 5;
  }
  /// Adds tokens until the answer is finished; all of them must have been wanted.
  Answer answer(const Ids& tokens) {
    Answer made(tokenizer_, row_, kEos);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_EQ(made.add({.token = tokens[i]}), i + 1 == tokens.size()) << i;
    }
    return made;
  }

  Tokenizer tokenizer_ = support::small_tokenizer({{"a", "\n"}, {"a\n", "b"}});
  RequestRow row_;
};

TEST_F(AnswerTest, MaxTokensEndIt) {
  row_.max_tokens = 2;
  const Answer made = answer({byte_id('a'), byte_id('b')});
  EXPECT_EQ(made.text(), "ab");
  EXPECT_EQ(made.finish(), Finish::length);
}

TEST_F(AnswerTest, EosEndsItAndIsKeptInTheTokensOnly) {
  const Answer made = answer({byte_id('a'), kEos});
  EXPECT_EQ(made.text(), "a");
  EXPECT_EQ(made.tokens(), (Ids{byte_id('a'), kEos}));
  EXPECT_EQ(made.finish(), Finish::stop);
}

TEST_F(AnswerTest, EosAsTheLastAllowedTokenIsAStop) {
  row_.max_tokens = 2;
  EXPECT_EQ(answer({byte_id('a'), kEos}).finish(), Finish::stop);
}

TEST_F(AnswerTest, IgnoredEosLeavesNoText) {
  row_.ignore_eos = true;
  row_.max_tokens = 3;
  const Answer made = answer({byte_id('a'), kEos, byte_id('b')});
  EXPECT_EQ(made.text(), "ab");
  EXPECT_EQ(made.finish(), Finish::length);
}

TEST_F(AnswerTest, SpecialTokensAreKeptIfAskedFor) {
  row_.ignore_eos = true;
  row_.max_tokens = 3;
  row_.skip_special = false;
  EXPECT_EQ(answer({byte_id('a'), kEos, byte_id('b')}).text(), "a</s>b");
  row_.ignore_eos = false;  // the token that ends the answer is no part of its text
  EXPECT_EQ(answer({byte_id('a'), kEos}).text(), "a");
}

TEST_F(AnswerTest, AStopStringMayBeASpecialToken) {
  row_.stop = {"<pad>"};
  const Answer made = answer({byte_id('a'), byte_id('\xE2'), 1});
  EXPECT_EQ(made.text(), "a\uFFFD");
  EXPECT_EQ(made.tokens().size(), 3U);
  EXPECT_EQ(made.finish(), Finish::stop);
}

TEST_F(AnswerTest, StopTokensEndItWithoutTheirText) {
  row_.stop_token_ids = {byte_id('x'), byte_id('y')};
  const Answer made = answer({byte_id('a'), byte_id('y')});
  EXPECT_EQ(made.text(), "a");
  EXPECT_EQ(made.tokens().size(), 2U);
  EXPECT_EQ(made.finish(), Finish::stop);
}

TEST_F(AnswerTest, AStopStringOverTokenBorders) {
  row_.stop = {"abc"};
  const Answer made = answer({byte_id('x'), byte_id('a'), byte_id('b'), byte_id('c')});
  EXPECT_EQ(made.text(), "x");
  EXPECT_EQ(made.tokens().size(), 4U);
  EXPECT_EQ(made.finish(), Finish::stop);
}

TEST_F(AnswerTest, AStopStringInsideAToken) {
  row_.stop = {"\n"};
  const Answer made = answer({byte_id('x'), kFirstMerge + 1});
  EXPECT_EQ(made.text(), "xa");
  EXPECT_EQ(made.finish(), Finish::stop);
}

TEST_F(AnswerTest, WhatWasHeldBackComesOutAtTheEnd) {
  row_.stop = {"abc"};
  row_.max_tokens = 3;
  EXPECT_EQ(answer({byte_id('x'), byte_id('a'), byte_id('b')}).text(), "xab");
  EXPECT_EQ(answer({byte_id('a'), byte_id('b'), kEos}).text(), "ab");
  EXPECT_EQ(answer({byte_id('x'), byte_id('y'), byte_id('\xE2')}).text(), "xy\uFFFD");
}

TEST_F(AnswerTest, ThePromptIsNotSearchedForStopStrings) {
  row_.stop = {"p"};
  row_.max_tokens = 1;
  EXPECT_EQ(answer({byte_id('a')}).finish(), Finish::length);
}

TEST_F(AnswerTest, ResultsAreKeptOnlyIfAskedFor) {
  row_.max_tokens = 1;
  EXPECT_TRUE(answer({byte_id('a')}).results().empty());
  row_.sampling.logprobs = 0;
  EXPECT_EQ(answer({byte_id('a')}).results().size(), 1U);
}

}  // namespace
}  // namespace sluice::launcher
