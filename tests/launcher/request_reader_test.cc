#include "launcher/jobs/request_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "kernels/device/error.h"
#include "launcher/jobs/line_reader.h"
#include "tests/support/model_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

class RequestReaderTest : public testing::Test {
 protected:
  Requests read(const std::string& name, const std::string& bytes) {
    RequestParser parser(tokenizer_, {}, {270, 64});
    std::istringstream in(bytes);
    return read_requests(in, name, parser);
  }
  std::string text_of(const RequestRow& row) { return tokenizer_.decode(row.prompt, true); }

  Tokenizer tokenizer_ = support::small_tokenizer({}, 270);
};

TEST_F(RequestReaderTest, TextHasOnePromptPerLine) {
  const Requests requests = read("prompts.txt",
                                 "\xEF\xBB\xBF"
                                 "one\r\n\n  \n two \n3");
  ASSERT_EQ(requests.rows.size(), 3U);
  EXPECT_EQ(text_of(requests.rows[0]), "one");
  EXPECT_EQ(text_of(requests.rows[1]), " two ");
  EXPECT_EQ(requests.rows[1].custom_id, "row-4");
  EXPECT_EQ(requests.rows[2].line, 5);
}

TEST_F(RequestReaderTest, JsonIsToldByNameOrByItsFirstCharacter) {
  const std::string row = "{\"prompt\": \"ab\"}\n";
  EXPECT_EQ(text_of(read("x.txt", "\xEF\xBB\xBF\n  " + row).rows.at(0)), "ab");
  EXPECT_EQ(text_of(read("x.jsonl", row).rows.at(0)), "ab");
  EXPECT_EQ(read("x.jsonl", "plain text\n").failures.size(), 1U);
  EXPECT_EQ(read("x.json", "[]\n").failures.size(), 1U);
  EXPECT_EQ(text_of(read("x.txt", "text\n" + row).rows.at(1)), "{\"prompt\": \"ab\"}");
}

TEST_F(RequestReaderTest, BadRowsHarmNoOther) {
  const Requests requests = read("x.jsonl",
                                 "{\"prompt\": \"a\"}\n{\"prompt\": 3}\nnonsense\n\n"
                                 "{\"prompt\": \"b\", \"custom_id\": \"last\"}");
  ASSERT_EQ(requests.rows.size(), 2U);
  EXPECT_EQ(requests.rows[1].custom_id, "last");
  ASSERT_EQ(requests.failures.size(), 2U);
  EXPECT_EQ(requests.failures[0].line, 2);
  EXPECT_EQ(requests.failures[1].line, 3);
}

TEST_F(RequestReaderTest, OfEqualCustomIdsTheFirstCounts) {
  const Requests requests = read("x.jsonl",
                                 "{\"prompt\": \"a\", \"custom_id\": \"x\"}\n"
                                 "{\"prompt\": \"b\", \"custom_id\": \"x\"}\n"
                                 "{\"prompt\": \"c\", \"custom_id\": \"row-4\"}\n"
                                 "{\"prompt\": \"d\"}\n"
                                 "{\"prompt\": 3, \"custom_id\": \"x\"}\n");
  ASSERT_EQ(requests.rows.size(), 2U);
  EXPECT_EQ(text_of(requests.rows[0]), "a");
  ASSERT_EQ(requests.failures.size(), 3U);
  for (const RowFailure& failure : requests.failures) {
    EXPECT_EQ(failure.code, kDuplicateCustomId);
    EXPECT_EQ(failure.param, "custom_id");
  }
  EXPECT_THAT(requests.failures[0].message, HasSubstr("of line 1"));
  EXPECT_EQ(requests.failures[1].custom_id, "row-4");
}

TEST_F(RequestReaderTest, ALineLongerThanTheLimitIsARowThatFails) {
  std::string bytes = "{\"prompt\": \"" + std::string(kMaxLineBytes, 'a') + "\"}\n";
  bytes += "{\"prompt\": \"b\"}\n";
  const Requests requests = read("x.jsonl", bytes);
  ASSERT_EQ(requests.failures.size(), 1U);
  EXPECT_THAT(requests.failures[0].message, HasSubstr("line 1"));
  ASSERT_EQ(requests.rows.size(), 1U);
  EXPECT_EQ(requests.rows[0].line, 2);
}

TEST_F(RequestReaderTest, WarningsAreHandedOn) {
  EXPECT_EQ(
      read("x.jsonl", "{\"url\": \"/v1/completions\", \"body\": {\"prompt\": \"a\", \"zz\": 1}}\n")
          .warnings.size(),
      1U);
}

TEST_F(RequestReaderTest, FilesThatCannotBeRead) {
  const support::ModelFolder folder;
  RequestParser parser(tokenizer_, {}, {270, 64});
  EXPECT_THROW(read_requests(folder.path() / "absent.jsonl", parser), InputError);
  EXPECT_THROW(read_requests(folder.path(), parser), InputError);
  EXPECT_THROW(read_requests(std::filesystem::path("/proc/self/mem"), parser), IoError);
  const auto path = folder.write("in.jsonl", "{\"prompt\": \"a\"}");
  EXPECT_EQ(read_requests(path, parser).rows.size(), 1U);
  EXPECT_TRUE(read_requests(folder.write("empty.txt", ""), parser).rows.empty());
}

}  // namespace
}  // namespace sluice::launcher
