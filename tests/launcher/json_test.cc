#include "launcher/json/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace sluice::launcher {
namespace {

JsonError error_of(std::string_view text, std::size_t depth = Json::kMaxDepth) {
  try {
    Json::parse(text, depth);
  } catch (const JsonError& error) {
    return error;
  }
  ADD_FAILURE() << text << " was taken";
  return {JsonError::Kind::syntax, ""};
}

TEST(Json, ListsOfNamedPairsAreObjectsInTheOrderWritten) {
  const Json json = {{"z", 1}, {"a", {{"in", "side"}}}, {"list", {1, 2.5, nullptr, true}}};
  EXPECT_EQ(json.dump(), R"({"z":1,"a":{"in":"side"},"list":[1,2.5,null,true]})");
  EXPECT_EQ(Json({"a", 1}).dump(), R"(["a",1])");
  EXPECT_EQ(Json::array({Json::array({"h", "e"})}).dump(), R"([["h","e"]])");
  EXPECT_EQ(Json(std::vector<int>{3, 4}).dump(), "[3,4]");
}

TEST(Json, IndentsAsTheLibraryDoes) {
  const Json json = {{"a", 1}, {"b", {1, 2}}, {"c", Json::array()}, {"d", Json::object()}};
  EXPECT_EQ(json.dump(2),
            "{\n  \"a\": 1,\n  \"b\": [\n    1,\n    2\n  ],\n  \"c\": [],\n  \"d\": {}\n}");
}

TEST(Json, NumbersHaveTheDigitsTheyCarryAndNoMore) {
  EXPECT_EQ(Json(0.1F).dump(), "0.1");
  EXPECT_EQ(Json(0.1).dump(), "0.1");
  EXPECT_EQ(Json(static_cast<double>(0.1F)).dump(), "0.10000000149011612");
  EXPECT_EQ(Json(-9999.0F).dump(), "-9999.0");
  EXPECT_EQ(Json(std::numeric_limits<double>::infinity()).dump(), "null");
  EXPECT_EQ(Json(UINT64_MAX).dump(), "18446744073709551615");
  EXPECT_EQ(Json(INT64_MIN).dump(), "-9223372036854775808");
}

TEST(Json, TextIsAlwaysValid) {
  EXPECT_EQ(Json("a\"\n\xFF").dump(), "\"a\\\"\\n\xEF\xBF\xBD\"");
  EXPECT_EQ(Json("\xC3\xA4").dump(-1, true), "\"\\u00e4\"");
  EXPECT_EQ(Json::parse(R"("\u00e4\u0000b")").text(), std::string("\xC3\xA4\0b", 4));
}

TEST(Json, WhatIsWrittenReadsTheSame) {
  const std::string text =
      R"({"b":[1,-2,3.5,true,false,null,"x",{}],"a":{"deep":[[[]]]},"n":18446744073709551615})";
  EXPECT_EQ(Json::parse(text).dump(), text);
  EXPECT_EQ(Json::parse(" [1 ,2 ] "), Json({1, 2}));
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const char* text :
       {"", "{", "[1,]", "nul", "1e999", "{\"a\" 1}", "[1] x", "'a'", "\"\xFF\""}) {
    const JsonError error = error_of(text);
    EXPECT_EQ(error.kind(), JsonError::Kind::syntax) << text;
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("json.exception"))) << text;
  }
  EXPECT_THAT(error_of(std::string_view("[1]\0", 4)).what(), testing::HasSubstr("byte 4 is a NUL"));
  EXPECT_TRUE(Json::parse_or_null("[1,").is_null());
}

TEST(Json, RefusesAKeyTwiceInOneObjectOnly) {
  const JsonError error = error_of(R"([{"a": 1, "b": {"a": 2}}, {"k": 1, "k": 2}])");
  EXPECT_EQ(error.kind(), JsonError::Kind::duplicate);
  EXPECT_EQ(error.key(), "k");
}

TEST(Json, RefusesDepthBeyondTheBound) {
  EXPECT_EQ(Json::parse("[[[]]]", 3).dump(), "[[[]]]");
  EXPECT_EQ(error_of("[[[]]]", 2).kind(), JsonError::Kind::depth);
  EXPECT_EQ(error_of(std::string(1U << 20U, '[')).kind(), JsonError::Kind::depth);
}

TEST(Json, IntegersKeepTheirRange) {
  const Json large = Json::parse("18446744073709551615");
  EXPECT_EQ(large.unsigned_integer(), UINT64_MAX);
  EXPECT_THROW(large.integer(), JsonError);
  EXPECT_FALSE(large.is_integer_in(INT64_MIN, INT64_MAX));
  EXPECT_TRUE(Json(-1).is_integer_in(-1, 0));
  EXPECT_FALSE(Json(1).is_integer_in(-1, 0));
  EXPECT_FALSE(Json(0.0).is_integer_in(-1, 1));
  EXPECT_THROW(Json(-1).unsigned_integer(), JsonError);
  EXPECT_THROW(Json(1.5).integer(), JsonError);
  std::int8_t small = 0;
  EXPECT_THROW(Json(128).get_to(small), JsonError);
  Json(127).get_to(small);
  EXPECT_EQ(small, 127);
}

TEST(Json, EqualityIsByValue) {
  EXPECT_EQ(Json(1), Json(1U));
  EXPECT_EQ(Json(1), Json(1.0));
  EXPECT_NE(Json(-1), Json(UINT64_MAX));
  EXPECT_NE(Json(false), Json(0));
  EXPECT_EQ(Json::parse(R"({"a": 1, "b": [2]})"), Json::parse(R"({"b": [2], "a": 1})"));
  EXPECT_NE(Json::parse(R"({"a": 1})"), Json::parse(R"({"a": 1, "b": 2})"));
  EXPECT_EQ(Json("x"), "x");
}

TEST(Json, LooksUpMembers) {
  Json json = {{"a", nullptr}};
  EXPECT_NE(json.find("a"), nullptr);
  EXPECT_EQ(json.find("b"), nullptr);
  EXPECT_TRUE(json.member("b").member("c").is_null());
  EXPECT_THROW(json.at("b"), JsonError);
  json["b"]["c"] = 5;
  json["b"]["d"].push_back("x");
  EXPECT_EQ(json.dump(), R"({"a":null,"b":{"c":5,"d":["x"]}})");
  EXPECT_THROW(json["a"]["b"].text(), JsonError);
  EXPECT_THROW(Json(1)["a"], JsonError);
  EXPECT_THROW(Json(1).push_back(1), JsonError);
  EXPECT_EQ(Json(1).find("a"), nullptr);
  std::string keys;
  for (const auto& [key, value] : json.items()) keys += key;
  EXPECT_EQ(keys, "ab");
  EXPECT_EQ(Json().size(), 0U);
  EXPECT_EQ(Json("").size(), 1U);
  for (const Json& element : Json(3)) FAIL() << element.dump();
}

TEST(Json, ValuesAreMovedOutOfBraces) {
  std::string text(100, 'x');
  const char* bytes = text.data();
  const Json json = {{"a", {{"b", std::move(text)}}}};
  EXPECT_EQ(json.at("a").at("b").text().data(), bytes);
}

}  // namespace
}  // namespace sluice::launcher
