#include "launcher/serve/http_text.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::launcher {
namespace {

TEST(HttpText, PathsAreReadWithoutTheirQueries) {
  EXPECT_EQ(path_of("/v1/models"), "/v1/models");
  EXPECT_EQ(path_of("/v1/models?limit=3"), "/v1/models");
  EXPECT_EQ(path_of("/v1/models#x"), "/v1/models");
  EXPECT_EQ(path_of("/v1/models/facebook%2Fopt%2d1.3b"), "/v1/models/facebook/opt-1.3b");
  EXPECT_EQ(path_of("/a%"), "/a%");
  EXPECT_EQ(path_of("/a%4"), "/a%4");
  EXPECT_EQ(path_of("/a%zz"), "/a%zz");
  EXPECT_EQ(path_of("/%41%"), "/A%");
  EXPECT_EQ(path_of(""), "");
}

TEST(HttpText, JsonIsToldByItsType) {
  for (const char* type : {"application/json", "Application/JSON", "application/json;charset=utf-8",
                           "application/json ; charset=utf-8"}) {
    EXPECT_TRUE(is_json_type(type)) << type;
  }
  for (const char* type : {"", "text/plain", "application/jsonl", "application/jso", "json",
                           "text/plain; application/json"}) {
    EXPECT_FALSE(is_json_type(type)) << type;
  }
}

TEST(HttpText, KeysAreComparedWhole) {
  EXPECT_TRUE(equal_in_constant_time("secret", "secret"));
  for (const char* given : {"", "s", "secre", "secrets", "Secret", "secretsecret", "terces"}) {
    EXPECT_FALSE(equal_in_constant_time(given, "secret")) << given;
  }
  EXPECT_FALSE(equal_in_constant_time("a", ""));
}

TEST(HttpText, KeysComeAsBearersOrAsPasswords) {
  EXPECT_EQ(key_of("Bearer s3cret"), "s3cret");
  EXPECT_EQ(key_of("Bearer "), "");
  EXPECT_EQ(key_of("s3cret"), "");
  EXPECT_EQ(key_of("bearer s3cret"), "");
  EXPECT_EQ(key_of("Basic YWRhOnMzY3JldA=="), "s3cret");  // ada:s3cret
  EXPECT_EQ(key_of("Basic OnMzOmNyZXQ="), "s3:cret");     // :s3:cret
  EXPECT_EQ(key_of("Basic czNjcmV0"), "");                // s3cret, without a colon
  EXPECT_EQ(key_of("Basic !!"), "");
}

TEST(HttpText, Base64HasItsPadding) {
  // RFC 4648, section 10.
  EXPECT_EQ(encode_base64(""), "");
  EXPECT_EQ(encode_base64("f"), "Zg==");
  EXPECT_EQ(encode_base64("fo"), "Zm8=");
  EXPECT_EQ(encode_base64("foo"), "Zm9v");
  EXPECT_EQ(encode_base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(encode_base64("\xFB\xFF"), "+/8=");
}

TEST(HttpText, AQueryHasValuesByName) {
  const char* const target = "/v1/files?limit=7&after=a%20b%2Bc&empty=&flag&x=1+2#limit=9";
  EXPECT_EQ(query_of(target, "limit"), "7");
  EXPECT_EQ(query_of(target, "after"), "a b+c");
  EXPECT_EQ(query_of(target, "empty"), "");
  EXPECT_EQ(query_of(target, "flag"), "");
  EXPECT_EQ(query_of(target, "x"), "1 2");
  EXPECT_EQ(query_of(target, "none"), "");
  EXPECT_EQ(query_of("/v1/files", "limit"), "");
}

TEST(HttpText, AChunkSaysItsBytes) {
  EXPECT_EQ(chunk_of(std::string(26, 'a')).substr(0, 5), "1a\r\na");
}

}  // namespace
}  // namespace sluice::launcher
