#include "grammar/matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/grammar/reading.h"

namespace sluice::grammar {
namespace {

/// Texts of an expression, at most so long, by sets of texts: slow, and simple.
struct Oracle {
  Builder& builder;
  std::mt19937 random;
  std::size_t longest = 5;

  struct Made {
    Node node;
    std::set<std::string> texts;
  };

  Made make(int depth) {
    switch (depth == 0 ? random() % 2 : random() % 5) {
      case 0:
        return {builder.nothing(), {""}};
      case 1: {
        const std::string text(1, static_cast<char>('a' + random() % 2));
        return {builder.text(text), {text}};
      }
      case 2: {
        const Made one = make(depth - 1);
        Made two = make(depth - 1);
        two.texts.insert(one.texts.begin(), one.texts.end());
        return {builder.choice({one.node, two.node}), two.texts};
      }
      case 3: {
        const Made one = make(depth - 1);
        const Made two = make(depth - 1);
        return {builder.sequence({one.node, two.node}), joined(one.texts, two.texts)};
      }
      default:
        return repeated(make(depth - 1));
    }
  }

  Made repeated(const Made& one) {
    const auto least = static_cast<std::int64_t>(random() % 3);
    const bool open = random() % 2 == 0;
    const std::int64_t most = open ? Builder::kUnbounded : least + random() % 3;
    std::set<std::string> copies = {""};
    std::set<std::string> all;
    for (std::int64_t i = 0; i <= (open ? 12 : most); ++i) {
      if (i >= least) all.insert(copies.begin(), copies.end());
      copies = joined(copies, one.texts);
    }
    return {builder.repeat(one.node, least, most), all};
  }

  std::set<std::string> joined(const std::set<std::string>& a,
                               const std::set<std::string>& b) const {
    std::set<std::string> all;
    for (const std::string& one : a) {
      for (const std::string& two : b) {
        if (one.size() + two.size() <= longest) all.insert(one + two);
      }
    }
    return all;
  }
};

std::vector<std::string> all_texts(std::size_t longest) {
  std::vector<std::string> texts = {""};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() == longest) continue;
    texts.push_back(texts[i] + "a");
    texts.push_back(texts[i] + "b");
  }
  return texts;
}

TEST(Matcher, RandomExpressionsHaveTheTextsOfTheOracle) {
  const std::vector<std::string> texts = all_texts(5);
  for (unsigned seed = 0; seed < 400; ++seed) {
    Builder builder;
    Oracle oracle{builder, std::mt19937(seed)};
    const Oracle::Made made = oracle.make(4);
    Matcher matcher(program_of(builder, made.node));
    for (const std::string& text : texts) {
      ASSERT_EQ(fits(matcher, text), made.texts.count(text) > 0) << seed << ' ' << text;
    }
  }
}

TEST(Matcher, EveryStateCanReachAnEnd) {
  // What is alive begins a text: it is a prefix of one of the oracle's.
  for (unsigned seed = 0; seed < 200; ++seed) {
    Builder builder;
    Oracle oracle{builder, std::mt19937(seed)};
    const Oracle::Made made = oracle.make(3);
    if (made.texts.empty()) continue;
    Matcher matcher(program_of(builder, made.node));
    for (const std::string& text : all_texts(2)) {
      if (state_behind(matcher, text) == Matcher::kDead) {
        for (const std::string& whole : made.texts) {
          ASSERT_FALSE(whole.starts_with(text)) << seed << ' ' << text;
        }
      }
    }
  }
}

TEST(Matcher, WhatMustEndHasNothingBehindIt) {
  Builder builder;
  Matcher matcher(program_of(builder, builder.choice({builder.text("ab"), builder.text("abc")})));
  EXPECT_TRUE(matcher.may_end(state_behind(matcher, "ab")));
  EXPECT_FALSE(matcher.must_end(state_behind(matcher, "ab")));
  EXPECT_TRUE(matcher.must_end(state_behind(matcher, "abc")));
}

TEST(Matcher, AListInAListKeepsNoStackForEachItem) {
  Builder builder;
  const Rule list = builder.declare("list");
  builder.define(list, builder.choice({builder.nothing(),
                                       builder.sequence({builder.text("x"), builder.call(list)})}));
  Matcher matcher(builder.compile(list));
  const std::string text(10'000, 'x');
  EXPECT_TRUE(fits(matcher, text));
  EXPECT_LT(matcher.memory_bytes(), 4096U);
}

TEST(Matcher, AForgottenStateIsFoundAgainByReading) {
  Builder builder;
  Matcher matcher(program_of(builder, builder.repeat(builder.text("ab"), 1, 3)));
  EXPECT_TRUE(fits(matcher, "abab"));
  matcher.forget();
  EXPECT_EQ(matcher.memory_bytes(), 0U);
  EXPECT_TRUE(fits(matcher, "abab"));
  EXPECT_FALSE(fits(matcher, "aba"));
}

TEST(Matcher, AGrammarOfTooManyStacksIsDeadAndSaysSo) {
  // (a|b)* a (a|b){3000}: any of the last 3,000 bytes may have been the 'a'.
  Builder builder;
  const Node ab = builder.bytes('a', 'b');
  const Node body = builder.sequence({builder.repeat(ab, 0, Builder::kUnbounded), builder.text("a"),
                                      builder.repeat(ab, 3000, 3000)});
  Matcher matcher(program_of(builder, body));
  EXPECT_NE(state_behind(matcher, std::string(100, 'a')), Matcher::kDead);
  EXPECT_FALSE(matcher.is_too_ambiguous());
  EXPECT_EQ(state_behind(matcher, std::string(3000, 'a')), Matcher::kDead);
  EXPECT_TRUE(matcher.is_too_ambiguous());
}

}  // namespace
}  // namespace sluice::grammar
