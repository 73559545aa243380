#include "launcher/serve/multipart.h"

#include <gtest/gtest.h>

#include <string>

#include "launcher/serve/api_error.h"

namespace sluice::launcher {
namespace {

const std::string kType = "multipart/form-data; boundary=x1";

/// Why it is refused; empty: it is not.
std::string refusal(const std::string& type, const std::string& body) {
  try {
    parse_form(type, body);
    return {};
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    return error.message;
  }
}

std::string part(const std::string& header, const std::string& content) {
  return "--x1\r\n" + header + "\r\n\r\n" + content + "\r\n";
}

TEST(Multipart, PartsHaveNamesAndBytes) {
  // As curl, requests and httpx write it.
  const std::string bytes("a\r\n--x\r\n\0b", 10);
  const std::string body =
      part("Content-Disposition: form-data; name=\"purpose\"", "batch") +
      part(
          "content-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\";.jsonl\"\r\n"
          "Content-Type: application/octet-stream",
          bytes) +
      part("Content-Disposition: form-data; name=empty", "") + "--x1--\r\n";
  const auto parts = parse_form(kType, body);
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].name, "purpose");
  EXPECT_EQ(parts[0].filename, "");
  EXPECT_EQ(parts[0].content, "batch");
  EXPECT_EQ(parts[1].name, "file");
  EXPECT_EQ(parts[1].filename, "a \"b\";.jsonl");
  EXPECT_EQ(parts[1].content, bytes);
  EXPECT_EQ(parts[2].name, "empty");
  EXPECT_EQ(parts[2].content, "");
}

TEST(Multipart, APartWithoutContentMayEndAtItsHeader) {
  const auto parts =
      parse_form(kType, "--x1\r\nContent-Disposition: form-data; name=a\r\n\r\n--x1--");
  ASSERT_EQ(parts.size(), 1U);
  EXPECT_EQ(parts[0].content, "");
}

TEST(Multipart, BoundariesMayBeQuoted) {
  const std::string type = "Multipart/Form-Data; charset=utf-8; Boundary=\"x=1;\"";
  EXPECT_TRUE(is_form_type(type));
  const auto parts =
      parse_form(type, "--x=1;\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x=1;--");
  ASSERT_EQ(parts.size(), 1U);
  EXPECT_EQ(parts[0].content, "b");
  EXPECT_FALSE(is_form_type("multipart/form-datax; boundary=a"));
  EXPECT_FALSE(is_form_type("application/json"));
}

TEST(Multipart, WhatIsNoFormIsRefused) {
  const std::string good = part("Content-Disposition: form-data; name=a", "b");
  const std::string end = "--x1--";
  EXPECT_EQ(refusal(kType, good + end), "");
  const struct {
    std::string type, body, word;
  } kBad[] = {
      {"multipart/form-data", good + end, "boundary"},
      {"multipart/form-data; boundary=", good + end, "boundary"},
      {"multipart/form-data; boundary=\"x1", good + end, "boundary"},
      {"multipart/form-data; boundary=" + std::string(71, 'x'), good + end, "boundary"},
      {kType, "", "begin"},
      {kType, "preamble\r\n" + good + end, "begin"},
      {kType, "--x2\r\n", "begin"},
      {kType, "--x1 \r\n", "end of its line"},
      {kType, good, "behind it"},
      {kType, good + "--x1", "end of its line"},
      {kType, good.substr(0, good.size() - 2), "behind it"},
      {kType, good + end + "junk", "behind its last"},
      {kType, good + end + "\r\n\r\n", "behind its last"},
      {kType, part("Content-Type: text/plain", "b") + end, "no Content-Disposition"},
      {kType, part("Content-Disposition: attachment; name=a", "b") + end, "form-data"},
      {kType, part("Content-Disposition: form-data; filename=a", "b") + end, "name"},
      {kType, part("Content-Disposition: form-data; name=\"a", "b") + end, "name"},
      {kType, part("no colon", "b") + end, "colon"},
      {kType,
       part("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64", "b") +
           end,
       "as they are"},
      {kType, "--x1\r\nA: " + std::string(9000, 'a') + "\r\n\r\n", "8 KiB"},
  };
  for (const auto& bad : kBad) {
    EXPECT_NE(refusal(bad.type, bad.body).find(bad.word), std::string::npos)
        << bad.body << refusal(bad.type, bad.body);
  }
  std::string many;
  for (int i = 0; i < 17; ++i) many += good;
  EXPECT_NE(refusal(kType, many + end).find("16"), std::string::npos);
}

}  // namespace
}  // namespace sluice::launcher
