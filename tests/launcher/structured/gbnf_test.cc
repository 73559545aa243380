#include "launcher/structured/gbnf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "launcher/json/json.h"
#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/structured_answer.h"
#include "tests/launcher/structured/written_texts.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

std::string refusal(std::string_view text) {
  try {
    gbnf_program(text);
  } catch (const GrammarProblem& problem) {
    return problem.what();
  }
  return "";
}

TEST(Gbnf, ReadsRulesTextsClassesAndRepeats) {
  const grammar::Program program = gbnf_program(
      "# a list\n"
      "root ::= item{1,3} tail?\n"
      "item ::= \"- \" [a-z\\]]+ (\"!\" |\n"
      "   \"?\") \"\\n\"\n"
      "tail ::= [^a-z] | \"\\x41\\u20ac\"  # a comment\n");
  EXPECT_TRUE(fits(program, "- abc!\n"));
  EXPECT_TRUE(fits(program, "- a]!\n- b?\n7"));
  EXPECT_TRUE(fits(program, "- a!\nA€"));
  EXPECT_FALSE(fits(program, "- a!\nab"));
  EXPECT_FALSE(fits(program, ""));
}

// llama.cpp, grammars/json.gbnf and grammars/arithmetic.gbnf, as of 2024.
constexpr const char* kJson = R"gbnf(
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
)gbnf";

TEST(Gbnf, ReadsLlamasJsonGrammar) {
  grammar::Matcher matcher(gbnf_program(kJson));
  EXPECT_TRUE(fits(matcher, R"({"a": [1, 2.5, {"b": null}], "c": "x\n"})"));
  EXPECT_FALSE(fits(matcher, R"([1])"));
  EXPECT_FALSE(fits(matcher, R"({"a": tru})"));
  std::mt19937 random(1);
  int texts = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string text = written(matcher, random);
    if (text.empty()) continue;
    EXPECT_TRUE(fits(matcher, text)) << text;
    ++texts;
  }
  EXPECT_GT(texts, 100);
}

TEST(Gbnf, ReadsLlamasArithmeticGrammar) {
  const grammar::Program program = gbnf_program(R"gbnf(root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
)gbnf");
  EXPECT_TRUE(fits(program, "(a +2)*b = 7\n"));
  EXPECT_FALSE(fits(program, "(a +2 = 7\n"));
}

TEST(Gbnf, SaysWhatItRefuses) {
  EXPECT_THAT(refusal("item ::= \"a\"\n"), HasSubstr("has no rule 'root'"));
  EXPECT_THAT(refusal("root ::= item\n"), HasSubstr("the rule 'item' is used and not defined"));
  EXPECT_THAT(refusal("root ::= root \"a\" | \"b\"\n"), HasSubstr("the rule 'root' calls itself"));
  EXPECT_THAT(refusal("root ::= <think>\n"), HasSubstr("a token <...>"));
  EXPECT_THAT(refusal("root ::= \"a\nb\"\n"), HasSubstr("a text without its end"));
  EXPECT_THAT(refusal("root = \"a\"\n"), HasSubstr("no '::=' behind the name 'root'"));
  EXPECT_THAT(refusal("root ::= (\"a\"\n"), HasSubstr("'(' without its ')'"));
  EXPECT_THAT(refusal("root ::= \"a\"\nroot ::= \"b\"\n"), HasSubstr("the rule 'root' twice"));
  EXPECT_THAT(refusal("root ::= \"\\q\"\n"), HasSubstr("an escape that GBNF does not have"));
}

}  // namespace
}  // namespace sluice::launcher
