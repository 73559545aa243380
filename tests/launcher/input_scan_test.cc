#include "launcher/jobs/input_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <istream>

#include "kernels/device/error.h"
#include "launcher/jobs/input_lines.h"
#include "tests/support/model_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

class InputScanTest : public testing::Test {
 protected:
  InputScan scan(const std::string& name, const std::string& bytes,
                 std::uint64_t exact_bytes = kExactBytes) {
    InputFile file(folder_.write(name, bytes));
    InputScan found = scan_input(
        file, RequestParser(tokenizer_, {}, {tokenizer_.table_size(), 500}), exact_bytes);
    std::istream in(&file);
    std::string first;
    EXPECT_EQ(static_cast<bool>(std::getline(in, first)), !bytes.empty());
    EXPECT_TRUE(bytes.starts_with(first)) << "it is at its beginning again";
    return found;
  }

  support::ModelFolder folder_;
  Tokenizer tokenizer_ = support::small_tokenizer();
};

const std::string kRows =
    "{\"prompt\": \"abc\", \"max_tokens\": 3}\n"
    "\n"
    "nonsense\n"
    "{\"prompt\": \"abcdef\"}\n";

TEST_F(InputScanTest, OfASmallInputEveryRowIsTokenized) {
  const InputScan found = scan("in.jsonl", kRows);
  EXPECT_EQ(found.job.rows, 3);
  EXPECT_EQ(found.job.longest_sequence, 7 + 32);
  EXPECT_EQ(found.job.usual_sequence, 7 + 32);
  EXPECT_EQ(scan("empty.jsonl", "").job.longest_sequence, 0);
}

TEST_F(InputScanTest, OfALargeOneBytesBoundTheTokens) {
  const std::string first = "{\"prompt\": \"abc\", \"max_tokens\": 3}\n";
  const std::string second =
      "{\"prompt\": \"" + std::string(100, 'x') + "\", \"max_tokens\": 50}\n";
  const InputScan found = scan("in.jsonl", first + second, first.size());
  EXPECT_EQ(found.job.rows, 2);
  EXPECT_EQ(found.job.usual_sequence, 4 + 3);
  EXPECT_EQ(found.job.longest_sequence, static_cast<std::int32_t>(second.size()) - 1 + 1 + 50);
  EXPECT_GE(found.job.longest_sequence, 101 + 50);
}

TEST_F(InputScanTest, RulesAreCountedOrBounded) {
  const std::string bias = "{\"prompt\": \"abc\", \"logit_bias\": {\"7\": 1, \"8\": 1}}\n";
  EXPECT_EQ(scan("in.jsonl", kRows).job.most_rule_words, 0);
  EXPECT_EQ(scan("in.jsonl", kRows + bias).job.most_rule_words, 3 + 2 * 2);
  EXPECT_EQ(scan("in.jsonl", kRows, 1).job.most_rule_words, 0);
  for (const char* field : {"\"logit_bias\": {}", "\"bad_words\": []", "\"min_tokens\": 2",
                            "\"bad\\u005fwords\": []"}) {
    const std::string line = "{\"prompt\": \"abc\", " + std::string(field) + "}\n";
    EXPECT_EQ(scan("in.jsonl", line + line, line.size()).job.most_rule_words, stage::kMaxRuleWords)
        << field;
  }
}

TEST_F(InputScanTest, NoRowHasMoreTokensThanItsBound) {
  RequestParser parser(tokenizer_, {}, {tokenizer_.table_size(), 500});
  for (const std::string line :
       {R"({"prompt": "abc"})", R"({"prompt": "abc", "max_tokens": 300})",
        R"({"prompt": "abc", "max\u005ftokens": 300})", R"({"prompt": "abc", "max_tokens" : 300})",
        R"({"prompt": [1,2,3,4,5,6,7,8,9]})", R"({"prompt": "</s></s>", "max_tokens": 0})",
        "{\"prompt\": \"abc\", \"max_tokens\"\r:\r300}",
        R"({"prompt": "say max_tokens: 7", "max_tokens": 400})", R"({"prompt": "\u00e9"})"}) {
    const auto parsed = parser.parse_json(line, 1);
    ASSERT_TRUE(std::holds_alternative<RequestRow>(parsed)) << line;
    const auto& row = std::get<RequestRow>(parsed);
    EXPECT_GE(most_tokens_of(line, true, parser),
              static_cast<std::int64_t>(row.prompt.size()) + row.max_tokens)
        << line;
  }
  EXPECT_EQ(most_tokens_of("abcd", false, parser), 4 + 1 + 32);
  EXPECT_EQ(most_tokens_of(std::string(1000, 'a'), false, parser), 500);
}

TEST_F(InputScanTest, NamesThatRowsMayHaveAreFound) {
  const InputScan found =
      scan("in.jsonl",
           "{\"prompt\": \"a\", \"custom_id\": \"row-2\"}\n"
           "{\"prompt\": \"row-3\", \"custom_id\": \"row-03x\"}\n"
           "{\"prompt\": \"a\", \"custom_id\":\"row-9999999999999999999999\"}\n");
  EXPECT_TRUE(found.names.has(2));
  EXPECT_TRUE(found.names.has(3)) << "it might be one";
  EXPECT_FALSE(found.names.has(1));
}

TEST_F(InputScanTest, FilesThatCannotBeRead) {
  EXPECT_THROW(InputFile(folder_.path() / "absent.jsonl"), InputError);
  EXPECT_THROW(InputFile(folder_.path()), InputError);
  InputFile unreadable("/proc/self/mem");
  std::istream in(&unreadable);
  InputLines lines(in, unreadable.name());
  InputLine line;
  EXPECT_THROW(lines.next(line), IoError);
}

}  // namespace
}  // namespace sluice::launcher
