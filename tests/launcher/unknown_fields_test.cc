#include "launcher/jobs/unknown_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/jobs/answer_form.h"
#include "launcher/jobs/request_parser.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using Strings = std::vector<std::string>;
using testing::HasSubstr;

class UnknownFieldsTest : public testing::Test {
 protected:
  RequestParser make(UnknownFieldRule rule) {
    return RequestParser(tokenizer_, defaults_, {270, 64}, nullptr, rule);
  }
  static RequestRow accept(RequestParser& parser, const std::string& line,
                           std::int64_t number = 3) {
    auto parsed = parser.parse_json(line, number);
    if (const auto* failure = std::get_if<RowFailure>(&parsed)) {
      ADD_FAILURE() << line << ": " << failure->message;
      return {};
    }
    return std::get<RequestRow>(parsed);
  }
  static RowFailure refuse(RequestParser& parser, const std::string& line,
                           std::int64_t number = 3) {
    auto parsed = parser.parse_json(line, number);
    if (std::holds_alternative<RequestRow>(parsed)) {
      ADD_FAILURE() << "accepted: " << line;
      return {};
    }
    return std::get<RowFailure>(parsed);
  }
  std::string answer_to(const RequestRow& row) const {
    Answer answer(tokenizer_, row, 2);
    answer.finish_without_tokens();
    return answer_record(answer, {"m", 1});
  }

  Tokenizer tokenizer_ = support::small_tokenizer({}, 270);
  GenerationDefaults defaults_;
};

// Data sets have them: the answer expected, a category.
TEST_F(UnknownFieldsTest, AUsersOwnFieldIsWarnedOfOnceAndIgnored) {
  RequestParser parser = make(UnknownFieldRule::ignore);
  accept(parser, R"({"prompt": "ab", "expected": " Paris", "label": {"a": [1]}})", 1);
  EXPECT_EQ(accept(parser, R"({"prompt": "ab", "expected": "Rome"})", 2).kept_fields, "");
  const Strings warnings = parser.take_warnings();
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_EQ(warnings[0], "the unknown field \"expected\" (first on line 1) is ignored");
}

TEST_F(UnknownFieldsTest, ASlipIsAnsweredAndItsWarningSaysWhatWasMeant) {
  RequestParser parser = make(UnknownFieldRule::ignore);
  EXPECT_EQ(accept(parser, R"({"prompt": "ab", "max_token": 1})", 4).max_tokens,
            defaults_.max_new_tokens);
  accept(parser, R"({"custom_id": "q", "url": "/v1/completions", "metod": "GET",
             "body": {"prompt": "ab", "temprature": 1}})",
         5);
  EXPECT_THAT(parser.take_warnings(),
              testing::ElementsAre(
                  "the unknown field \"max_token\" (first on line 4) is ignored; did you mean "
                  "'max_tokens'?",
                  "the unknown field \"metod\" (first on line 5) is ignored; did you mean "
                  "'method'?",
                  "the unknown field \"body.temprature\" (first on line 5) is ignored; did you "
                  "mean 'temperature'?"));
  refuse(parser, R"({"promt": "ab"})", 6);
  EXPECT_THAT(parser.take_warnings(), testing::ElementsAre(HasSubstr("'prompt'?")));
}

TEST_F(UnknownFieldsTest, TheStrictRefuseAnyUnknownField) {
  RequestParser parser = make(UnknownFieldRule::refuse);
  const RowFailure own = refuse(parser, R"({"prompt": "ab", "expected": " Paris"})");
  EXPECT_EQ(own.param, "expected");
  EXPECT_THAT(own.message, HasSubstr("line 3: the row has an unknown field \"expected\""));
  EXPECT_THAT(refuse(parser, R"({"prompt": "ab", "temprature": 1})").message,
              HasSubstr("did you mean 'temperature'?"));
  const std::string batch = R"({"custom_id": "q", "url": "/v1/completions", )";
  EXPECT_EQ(refuse(parser, batch + R"("body": {"prompt": "ab", "label": 1}})").param, "body.label");
  EXPECT_EQ(refuse(parser, batch + R"("label": 1, "body": {"prompt": "ab"}})").param, "label");
  accept(parser, R"({"prompt": "ab", "n": 1})");
  accept(parser, batch + R"("body": {"prompt": "ab", "model": "m", "user": "u"}})");
  EXPECT_TRUE(parser.take_warnings().empty());
}

TEST_F(UnknownFieldsTest, FieldsAreKeptWithTheirValues) {
  RequestParser parser = make(UnknownFieldRule::keep);
  EXPECT_EQ(accept(parser, R"({"text": "T\u00e9", "prompt": "ab", "label": {"a": [1, null, 1.5]}})")
                .kept_fields,
            "{\"text\":\"T\u00e9\",\"label\":{\"a\":[1,null,1.5]}}");
  EXPECT_EQ(accept(parser, R"({"prompt": "ab", "seed": 1})").kept_fields, "");
  EXPECT_EQ(accept(parser, R"({"custom_id": "q", "url": "/v1/completions", "label": 1,
                       "body": {"prompt": "ab", "label": 2}})")
                .kept_fields,
            R"({"label":1,"body":{"label":2}})");
  EXPECT_EQ(refuse(parser, R"({"prompt": "", "label": 3})").kept_fields, R"({"label":3})");
  EXPECT_TRUE(parser.take_warnings().empty());
  accept(parser, R"({"prompt": "ab", "max_token": 1})");
  EXPECT_THAT(parser.take_warnings(),
              testing::ElementsAre(testing::AllOf(HasSubstr("only given back"),
                                                  HasSubstr("did you mean 'max_tokens'?"))));
}

TEST_F(UnknownFieldsTest, WarningsAreBounded) {
  RequestParser parser = make(UnknownFieldRule::ignore);
  for (int i = 0; i < 1000; ++i) {
    accept(parser, "{\"prompt\": \"ab\", \"field-" + std::to_string(i) + "\": 1}");
  }
  const Strings warnings = parser.take_warnings();
  ASSERT_EQ(warnings.size(), 101U);
  EXPECT_THAT(warnings.back(), HasSubstr("more unknown fields"));
}

// In every form of a row, the record's last member.
TEST_F(UnknownFieldsTest, RecordsGiveThemBack) {
  RequestParser parser = make(UnknownFieldRule::keep);
  const std::string batch =
      R"({"custom_id": "q", "url": "/v1/completions", "text": "mine", "body": {"prompt": )";
  for (const std::string& line :
       Strings{R"({"prompt": "ab", "text": "mine"})", batch + "\"ab\"}}"}) {
    EXPECT_THAT(answer_to(accept(parser, line)),
                testing::EndsWith(R"(,"fields":{"text":"mine"}})"));
  }
  for (const std::string& line : Strings{R"({"text": "mine"})", batch + "1}}"}) {
    EXPECT_THAT(failure_record(refuse(parser, line)),
                testing::EndsWith(R"(,"fields":{"text":"mine"}})"));
  }
}

}  // namespace
}  // namespace sluice::launcher
