#include "launcher/structured/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "launcher/json/json.h"
#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/structured_answer.h"
#include "tests/launcher/structured/written_texts.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

struct Case {
  const char* schema;
  std::vector<const char*> valid;
  std::vector<const char*> others;
};

grammar::Program program_of(const char* schema) { return schema_program(Json::parse(schema)); }

std::pair<std::string, std::string> refusal(const char* schema) {
  try {
    program_of(schema);
  } catch (const GrammarProblem& problem) {
    return {problem.keyword(), problem.what()};
  }
  return {"", ""};
}

class Schema : public testing::TestWithParam<Case> {};

TEST_P(Schema, WritesItsValuesAndNoOthers) {
  grammar::Matcher matcher(program_of(GetParam().schema));
  for (const char* text : GetParam().valid) EXPECT_TRUE(fits(matcher, text)) << text;
  for (const char* text : GetParam().others) EXPECT_FALSE(fits(matcher, text)) << text;
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    const std::string text = written(matcher, random);
    if (text.empty()) continue;
    // One object may have a key twice, which ours refuses.
    try {
      Json::parse(text);
    } catch (const JsonError& problem) {
      EXPECT_EQ(problem.kind(), JsonError::Kind::duplicate) << text;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Types, Schema,
    testing::Values(
        Case{R"({"type":"null"})", {"null"}, {"", "0", " null", "null "}},
        Case{R"({"type":"boolean"})", {"true", "false"}, {"True", "t"}},
        Case{R"({"type":"integer"})", {"0", "-12"}, {"1.5", "01", "-0", "1e3"}},
        Case{R"({"type":"number"})", {"0", "-1.5", "1e10", "2.5E-3"}, {"1.", ".5", "1e400", "+1"}},
        Case{R"({"type":"string"})",
             {R"("")", R"("a b")", R"("\n\"\\\u00e9")", "\"\xC3\xA9\""},
             {"a", "\"a", R"("\ud800")", R"("\x")", "\"\n\""}},
        Case{R"({"type":["integer","null"]})", {"7", "null"}, {"\"7\"", "7null"}},
        Case{R"({"enum":["a","b",3,null]})", {"\"a\"", "3", "null"}, {"\"c\"", "4"}},
        Case{R"({"const":{"k":[1,2]}})", {R"({"k":[1,2]})", R"({"k": [1, 2]})"}, {R"({"k":[1]})"}},
        Case{R"({"type":"string","enum":["a",1]})", {"\"a\""}, {"1"}},
        Case{R"(true)", {"1", "[]", R"({"a":"b"})"}, {"", "x"}}));

INSTANTIATE_TEST_SUITE_P(
    Strings, Schema,
    testing::Values(
        Case{R"({"type":"string","minLength":2,"maxLength":3})",
             {R"("ab")", R"("\n\n\n")", "\"\xE2\x82\xAC\xE2\x82\xAC\""},
             {R"("a")", R"("abcd")"}},
        Case{R"({"type":"string","pattern":"^[A-Z]{2}-\\d+$"})",
             {R"("AB-12")"},
             {R"("xAB-12")", R"("AB-")"}},
        Case{R"({"type":"string","pattern":"b+"})", {R"("abbc")", R"("b")"}, {R"("aac")"}},
        Case{R"({"type":"string","pattern":"^a\"\\\\b$"})", {R"("a\"\\b")"}, {R"("a"\b")"}},
        Case{R"({"type":"string","format":"date"})",
             {R"("2024-01-31")", R"("1999-11-30")"},
             {R"("2024-02-30")", R"("2024-13-01")", R"("2024-1-1")"}},
        Case{R"({"type":"string","format":"date-time"})",
             {R"("2024-01-31T23:59:59Z")", R"("2024-01-31T00:00:00.5+01:00")"},
             {R"("2024-01-31 23:59:59Z")"}},
        Case{R"({"type":"string","format":"uuid"})",
             {R"("123e4567-e89b-12d3-a456-426614174000")"},
             {R"("123e4567")"}},
        Case{R"({"type":"string","format":"ipv4"})", {R"("10.0.255.1")"}, {R"("10.0.256.1")"}},
        Case{R"({"type":"string","format":"email"})", {R"("a.b@c-d.org")"}, {R"("a@b")"}}));

INSTANTIATE_TEST_SUITE_P(
    Numbers, Schema,
    testing::Values(
        Case{R"({"type":"integer","minimum":-3,"maximum":12})", {"-3", "0", "12"}, {"-4", "13"}},
        Case{R"({"type":"integer","exclusiveMinimum":0})", {"1", "99999"}, {"0", "-1"}},
        Case{R"({"type":"integer","minimum":0.5,"maximum":2.5})", {"1", "2"}, {"0", "3"}},
        Case{R"({"type":"number","minimum":0,"maximum":1})", {"0.5", "1"}, {"1.5", "-1"}},
        Case{R"({"type":"number","exclusiveMinimum":0})", {"0.001", "7"}, {"0", "0.0"}}));

INSTANTIATE_TEST_SUITE_P(
    Arrays, Schema,
    testing::Values(
        Case{R"({"type":"array"})", {"[]", "[1, \"a\", []]"}, {"[", "[1,]"}},
        Case{R"({"type":"array","items":{"type":"integer"}})",
             {"[]", "[1]", "[1,2]", "[\n  1,\n  2\n]"},
             {"[\"a\"]", "[1 ,2]", "[  1]", "[\n\n1]"}},
        Case{R"({"type":"array","items":{"const":1},"minItems":2,"maxItems":3})",
             {"[1,1]", "[1,1,1]"},
             {"[1]", "[1,1,1,1]", "[]"}},
        Case{R"({"type":"array","prefixItems":[{"const":1},{"const":2}],"items":false})",
             {"[1,2]", "[1]", "[]"},
             {"[2]", "[1,2,3]"}},
        Case{R"({"type":"array","prefixItems":[{"const":1}],"items":{"const":3},"minItems":2})",
             {"[1,3]", "[1,3,3]"},
             {"[1]", "[3,3]"}},
        Case{R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}}));

INSTANTIATE_TEST_SUITE_P(
    Objects, Schema,
    testing::Values(
        Case{R"({"type":"object"})", {"{}", R"({"a":1, "b": {}})"}, {"[]", "{"}},
        Case{R"({"type":"object","properties":{"a":{"const":1},"b":{"const":2}},"required":["a"]})",
             {R"({"a":1})", R"({"a": 1, "b": 2})", "{\n  \"a\": 1,\n  \"b\": 2\n}"},
             {"{}", R"({"b":2})", R"({"b":2,"a":1})", R"({"a":1,"c":3})"}},
        Case{R"({"properties":{"a":{"const":1},"b":{"const":2}}})",
             {"{}", R"({"b":2})", R"({"a":1})", R"({"a":1,"b":2})"},
             {R"({,"b":2})", "1"}},
        Case{R"({"type":"object","additionalProperties":{"type":"integer"}})",
             {"{}", R"({"x":1,"y":2})"},
             {R"({"x":"y"})"}},
        Case{
            R"({"type":"object","properties":{"ab":{"const":1}},
                "additionalProperties":{"const":2}})",
            {R"({"ab":1})", R"({"ab":1,"a":2,"abc":2,"b":2})", R"({"":2})"},
            {R"({"ab":2})", R"({"a":1})", R"({"\u0061b":2})"}},
        Case{R"({"type":"object","required":["x"],"additionalProperties":true})",
             {R"({"x":[]})", R"({"x":1,"y":2})"},
             {"{}"}}));

INSTANTIATE_TEST_SUITE_P(
    Joined, Schema,
    testing::Values(
        Case{R"({"anyOf":[{"type":"integer"},{"type":"null"}],"default":null})",
             {"1", "null"},
             {"\"\""}},
        Case{R"({"oneOf":[{"type":"integer"},{"type":"string"}]})", {"1", "\"\""}, {"null"}},
        Case{R"({"oneOf":[
                {"properties":{"k":{"const":"a"},"x":{"type":"null"}},"required":["k","x"],
                 "type":"object"},
                {"properties":{"k":{"const":"b"}},"required":["k"],"type":"object"}]})",
             {R"({"k":"a","x":null})", R"({"k":"b"})"},
             {R"({"k":"a"})"}},
        Case{R"({"allOf":[{"type":"integer","minimum":2},{"maximum":4}]})", {"2", "4"}, {"1", "5"}},
        Case{R"({"type":"object","properties":{"a":{"const":1}},"required":["a"],
                 "anyOf":[{"required":["b"],"properties":{"b":{"const":2}}},{"required":["a"]}]})",
             {R"({"a":1,"b":2})", R"({"a":1})"},
             {R"({"b":2})"}},
        Case{R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object",
                 "properties":{"v":{"type":"integer"},
                   "next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},
                 "required":["v","next"]}}})",
             {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
             {R"({"v":1})"}},
        Case{R"({"properties":{"kids":{"type":"array","items":{"$ref":"#"}}},"required":["kids"]})",
             {R"({"kids":[]})", R"({"kids":[{"kids":[]}]})"},
             {"{}"}},
        Case{R"({"$ref":"#/definitions/a~1b","definitions":{"a/b":{"const":5}}})", {"5"}, {"4"}}));

TEST(SchemaRefusal, NamesTheKeyword) {
  for (const char* keyword :
       {"multipleOf", "not", "if", "patternProperties", "minProperties", "contains",
        "dependentRequired", "propertyNames", "unevaluatedProperties", "x-order"}) {
    const std::string schema = std::string(R"({"type":"object",")") + keyword + R"(":1})";
    const auto [named, sentence] = refusal(schema.c_str());
    EXPECT_EQ(named, keyword);
    EXPECT_THAT(sentence, HasSubstr(keyword));
  }
}

TEST(SchemaRefusal, NamesTheKeywordOfAPartAndOfACombination) {
  EXPECT_EQ(refusal(R"({"type":"array","items":{"type":"integer","multipleOf":3}})").first,
            "multipleOf");
  EXPECT_EQ(refusal(R"({"type":"array","uniqueItems":true})").first, "uniqueItems");
  EXPECT_EQ(refusal(R"({"type":"string","pattern":"a","minLength":3})").first, "minLength");
  EXPECT_EQ(refusal(R"j({"type":"string","pattern":"(?=a)"})j").first, "pattern");
  EXPECT_EQ(refusal(R"({"type":"string","format":"hostname"})").first, "format");
  EXPECT_EQ(refusal(R"({"enum":[1,2],"minimum":2})").first, "minimum");
  EXPECT_EQ(refusal(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})").first, "oneOf");
  EXPECT_EQ(refusal(R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})").first, "pattern");
  EXPECT_EQ(refusal(R"({"type":"int"})").first, "type");
  EXPECT_EQ(refusal(R"({"$ref":"other.json"})").first, "$ref");
  EXPECT_EQ(refusal(R"({"$ref":"#/$defs/none"})").first, "$ref");
  EXPECT_EQ(refusal(R"({"$ref":"#","type":"object"})").first, "$ref");
  EXPECT_EQ(refusal(R"({"type":"number","minimum":1e-12})").first, "minimum");
  EXPECT_EQ(refusal(R"({"type":"array","items":[{"type":"null"}]})").first, "items");
}

TEST(SchemaRefusal, SaysWhereNoValueFits) {
  EXPECT_THAT(refusal(R"({"type":"integer","minimum":2,"maximum":1})").second,
              HasSubstr("no text fits"));
  EXPECT_THAT(refusal(R"({"$ref":"#"})").second, HasSubstr("no text fits"));
  EXPECT_THAT(refusal(R"({"type":"string","maxLength":90000})").second, HasSubstr("maxLength"));
}

TEST(JsonObject, IsAnyObject) {
  const grammar::Program program = json_object_program();
  EXPECT_TRUE(fits(program, R"({"a":{"b":[true,null,-1.5e3,"x"]}})"));
  EXPECT_FALSE(fits(program, "[]"));
  EXPECT_FALSE(fits(program, "{} "));
}

TEST(Choice, IsOneOfItsTexts) {
  const grammar::Program program = choice_program({"yes", "no", "not sure"});
  EXPECT_TRUE(fits(program, "no"));
  EXPECT_TRUE(fits(program, "not sure"));
  EXPECT_FALSE(fits(program, "not"));
}

}  // namespace
}  // namespace sluice::launcher
