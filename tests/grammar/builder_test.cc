#include "grammar/builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "kernels/device/error.h"
#include "tests/grammar/reading.h"

namespace sluice::grammar {
namespace {

using testing::HasSubstr;

std::string refusal(const Builder& builder, Rule root) {
  try {
    builder.compile(root);
  } catch (const InputError& problem) {
    return problem.what();
  }
  return "";
}

TEST(Builder, RepeatsCountTheirCopies) {
  Builder builder;
  const Node ab = builder.sequence({builder.text("a"), builder.text("b")});
  Matcher matcher(program_of(builder, builder.repeat(ab, 2, 4)));
  EXPECT_FALSE(fits(matcher, "ab"));
  EXPECT_TRUE(fits(matcher, "abab"));
  EXPECT_TRUE(fits(matcher, "abababab"));
  EXPECT_FALSE(fits(matcher, "ababababab"));
}

TEST(Builder, ARepeatOfNothingEnds) {
  Builder builder;
  const Node empty = builder.repeat(builder.optional(builder.text("x")), 0, Builder::kUnbounded);
  const Node many = builder.repeat(empty, 3, Builder::kUnbounded);
  Matcher matcher(program_of(builder, many));
  EXPECT_TRUE(fits(matcher, ""));
  EXPECT_TRUE(fits(matcher, "xxxxx"));
}

TEST(Builder, RulesNest) {
  Builder builder;
  const Rule list = builder.declare("list");
  builder.define(list, builder.sequence({builder.text("["),
                                         builder.repeat(builder.call(list), 0, Builder::kUnbounded),
                                         builder.text("]")}));
  Matcher matcher(builder.compile(list));
  EXPECT_TRUE(fits(matcher, "[[][[]]]"));
  EXPECT_FALSE(fits(matcher, "[[]"));
  EXPECT_EQ(state_behind(matcher, "[]]"), Matcher::kDead);
}

TEST(Builder, WhatLeadsNowhereIsLeftOut) {
  Builder builder;
  const Rule endless = builder.declare("endless");
  builder.define(endless, builder.sequence({builder.text("x"), builder.call(endless)}));
  const Node body =
      builder.choice({builder.sequence({builder.text("a"), builder.call(endless)}),
                      builder.text("b"), builder.sequence({builder.text("c"), builder.never()})});
  Matcher matcher(program_of(builder, body));
  EXPECT_TRUE(fits(matcher, "b"));
  EXPECT_EQ(state_behind(matcher, "a"), Matcher::kDead);
  EXPECT_EQ(state_behind(matcher, "c"), Matcher::kDead);
}

TEST(Builder, AGrammarWithoutTextsIsRefused) {
  Builder builder;
  const Rule root = builder.declare("root");
  builder.define(root, builder.sequence({builder.text("x"), builder.call(root)}));
  EXPECT_THAT(refusal(builder, root), HasSubstr("no text fits the grammar"));
}

TEST(Builder, LeftRecursionIsRefusedByName) {
  Builder builder;
  const Rule sum = builder.declare("sum");
  const Rule term = builder.declare("term");
  builder.define(sum, builder.call(term));
  builder.define(term, builder.choice({builder.sequence({builder.optional(builder.text("-")),
                                                         builder.call(sum), builder.text("+")}),
                                       builder.text("1")}));
  EXPECT_THAT(refusal(builder, sum), HasSubstr("the rule 'sum' calls itself"));
}

TEST(Builder, ARuleThatIsNotDefinedIsNamed) {
  Builder builder;
  const Rule root = builder.declare("root");
  builder.define(root, builder.call(builder.declare("item")));
  EXPECT_THAT(refusal(builder, root), HasSubstr("the rule 'item' is used and not defined"));
}

TEST(Builder, AGrammarThatIsTooLargeIsRefused) {
  Builder builder;
  const Rule root = builder.declare("root");
  builder.define(root, builder.repeat(builder.text("x"), 0, 100'000));
  EXPECT_THAT(refusal(builder, root), HasSubstr("make its bounds (such as maxLength) smaller"));
}

TEST(Builder, ManyCopiesOfALongTextAreOneRule) {
  Builder builder;
  const Node text = builder.text("a text of many bytes, which is in the program once");
  const Program program = program_of(builder, builder.repeat(text, 100, 100));
  EXPECT_LT(program.edges.size(), 200U);
}

}  // namespace
}  // namespace sluice::grammar
