#include "launcher/jobs/request_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "kernels/device/error.h"
#include "launcher/jobs/row_sorter.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

struct Requests {
  std::vector<RequestRow> rows;
  std::vector<RowFailure> failures;
  std::vector<std::string> warnings;
};

class RequestReaderTest : public testing::Test {
 protected:
  /// As a job reads it; `looked_at`: the input was looked at before, which a pipe cannot be.
  Requests read(const std::string& name, const std::string& bytes, bool looked_at = true) {
    RowNames names;
    if (looked_at) names.look_at(bytes, 1000);
    RequestParser parser(tokenizer_, {}, {270, 64});
    std::istringstream in(bytes);
    InputLines lines(in, name);
    RowSorter sorter({}, std::move(names));
    Requests requests;
    for (InputLine line; lines.next(line);) {
      auto row = sorter.sort(parse(line, parser));
      EXPECT_TRUE(row.has_value()) << "nothing was in the output";
      if (auto* good = std::get_if<RequestRow>(&row->row)) {
        requests.rows.push_back(*good);
      } else {
        requests.failures.push_back(std::get<RowFailure>(row->row));
      }
    }
    requests.warnings = parser.take_warnings();
    for (const std::string& warning : sorter.take_warnings()) requests.warnings.push_back(warning);
    return requests;
  }
  std::string text_of(const RequestRow& row) { return tokenizer_.decode(row.prompt, true); }

  Tokenizer tokenizer_ = support::small_tokenizer({}, 270);
};

// What is told without a parser is what the parser would tell, of right rows and wrong ones.
TEST_F(RequestReaderTest, ANameAloneIsTheNameThatTheParserFinds) {
  const RequestParser parser(tokenizer_, {}, {270, 64});
  int told = 0;
  for (const std::string id : {"a", "row-3", "\u00E9", "", "quo\\\"te", "esc\\u0061ped"}) {
    for (const std::string front : {"{\"custom_id\":\"", "{\"custom_id\" : \"", "{\"custom_id\" \"",
                                    "{ \"custom_id\":\"", "[\"custom_id\":\""}) {
      for (const std::string rest :
           {R"(","prompt":"ab"})", R"(","prompt":1})", R"(","custom_id":"b","prompt":"ab"})",
            R"(","method":"POST","url":"/v1/completions","body":{"prompt":"ab"}})", R"(",nonsense)",
            R"(","custom\u005fid":"b"})", R"("})", R"(")", ""}) {
        const InputLine line = {front + id + rest, 7, true, false, false};
        const auto alone = name_alone(line);
        if (!alone) continue;
        ++told;
        const auto& row = std::get<RequestRow>(alone->row);
        const RowDraft whole = draft(line, parser);
        std::visit(
            [&](const auto& other) {
              EXPECT_EQ(row.custom_id, other.custom_id) << line.text;
              EXPECT_EQ(row.naming, other.naming) << line.text;
              EXPECT_EQ(row.line, other.line) << line.text;
              EXPECT_EQ(row.form, other.form) << line.text;
            },
            whole.row);
      }
    }
  }
  EXPECT_GE(told, 16);
  EXPECT_FALSE(name_alone({R"({"custom_id":"a"})", 1, false, false, false}));
}

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
  EXPECT_EQ(text_of(read("pipe", row).rows.at(0)), "ab");
  EXPECT_EQ(read("x.jsonl", "plain text\n").failures.size(), 1U);
  EXPECT_EQ(text_of(read("x.txt", "text\n" + row).rows.at(1)), "{\"prompt\": \"ab\"}");
}

TEST_F(RequestReaderTest, ATextMayBeginWithABrace) {
  const Requests requests = read("x.txt", "{name} said hello\nanother\n");
  ASSERT_EQ(requests.rows.size(), 2U);
  EXPECT_EQ(text_of(requests.rows[0]), "{name} said hello");
  EXPECT_EQ(read("x.txt", "{\"prompt\": \"torn\n").failures.size(), 1U) << "no prompt, but JSON";
}

TEST_F(RequestReaderTest, OneJsonDocumentIsRefusedAsAWhole) {
  const auto refused = [&](const std::string& name, const std::string& bytes) {
    try {
      read(name, bytes);
      ADD_FAILURE() << "accepted: " << bytes;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr("not JSON Lines"));
    }
  };
  refused("x.json", "[]\n");
  refused("x.json", "[{\"prompt\": \"a\"},\n{\"prompt\": \"b\"}]\n");
  refused("x.jsonl", "\n[\n {\"prompt\": \"a\"}\n]\n");
  refused("x.jsonl", "{\n \"prompt\": \"a\"\n}\n");
  // A row that is a list harms no other.
  EXPECT_EQ(read("x.jsonl", "[1, 2]\n{\"prompt\": \"a\"}\n").rows.size(), 1U);
  EXPECT_EQ(text_of(read("x.txt", "[1, 2\n").rows.at(0)), "[1, 2");
}

TEST_F(RequestReaderTest, Utf16AndUtf32AreRefusedAsAWhole) {
  const std::string files[] = {{"\xFF\xFE"
                                "a\0b\0\n\0",
                                8},
                               {"\xFE\xFF\0a\0\n", 6},
                               {"a\0b\0\n\0", 6},
                               {"\0\0\0a\0\0\0\n", 8},
                               {"\xFF\xFE\n\0", 4}};
  for (const std::string& bytes : files) {
    for (const char* name : {"x.txt", "x.jsonl", "pipe"}) {
      try {
        read(name, bytes);
        ADD_FAILURE() << "accepted";
      } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("UTF-16"));
      }
    }
  }
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
                                 "{\"prompt\": 3, \"custom_id\": \"x\"}\n");
  ASSERT_EQ(requests.rows.size(), 1U);
  EXPECT_EQ(text_of(requests.rows[0]), "a");
  ASSERT_EQ(requests.failures.size(), 2U);
  for (const RowFailure& failure : requests.failures) {
    EXPECT_EQ(failure.code, kDuplicateCustomId);
    EXPECT_EQ(failure.param, "custom_id");
    EXPECT_THAT(failure.message, HasSubstr("of line 1"));
  }
}

// Whether the one with the name comes before or after the one without.
TEST_F(RequestReaderTest, ANameThatIsMadeUpTakesNoneThatIsGiven) {
  const std::string rows =
      "{\"prompt\": \"torn\n"
      "{\"prompt\": \"a\", \"custom_id\": \"row-1\"}\n"
      "{\"prompt\": \"b\", \"custom_id\": \"row-4\"}\n"
      "{\"prompt\": \"c\"}\n"
      "{\"prompt\": \"d\"}\n";
  const Requests requests = read("x.jsonl", rows);
  ASSERT_EQ(requests.rows.size(), 4U);
  EXPECT_EQ(requests.rows[0].custom_id, "row-1");
  EXPECT_EQ(requests.rows[1].custom_id, "row-4");
  EXPECT_EQ(requests.rows[2].naming, Naming::none);
  EXPECT_EQ(requests.rows[3].custom_id, "row-5");
  ASSERT_EQ(requests.failures.size(), 1U);
  EXPECT_EQ(requests.failures[0].naming, Naming::none);
  EXPECT_EQ(requests.failures[0].line, 1);
  // A seed is of the row alone, however it is named in the end.
  EXPECT_EQ(requests.rows[2].sampling.seed, default_seed(0, "row-4"));
}

TEST_F(RequestReaderTest, OfAPipeBothAreAnsweredAndItIsSaid) {
  const Requests requests = read("pipe",
                                 "{\"prompt\": \"a\"}\n"
                                 "{\"prompt\": \"b\", \"custom_id\": \"row-1\"}\n"
                                 "{\"prompt\": \"c\", \"custom_id\": \"row-1\"}\n"
                                 "{\"prompt\": \"d\", \"custom_id\": \"row-5\"}\n"
                                 "{\"prompt\": \"e\"}\n",
                                 false);
  ASSERT_EQ(requests.rows.size(), 4U);
  EXPECT_EQ(text_of(requests.rows[1]), "b");
  EXPECT_EQ(requests.rows[3].naming, Naming::none) << "this one's name was seen before";
  ASSERT_EQ(requests.failures.size(), 1U) << "two that were given one name";
  EXPECT_EQ(requests.failures[0].line, 3);
  ASSERT_EQ(requests.warnings.size(), 1U);
  EXPECT_THAT(requests.warnings[0], HasSubstr("line 2"));
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

}  // namespace
}  // namespace sluice::launcher
