#include "launcher/jobs/answer_form.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;
using support::byte_id;

class AnswerFormTest : public testing::Test {
 protected:
  void SetUp() override {
    row_.line = 4;
    row_.custom_id = "id";
    row_.prompt = {2, byte_id('p'), byte_id('\xC3'), byte_id('\xA9')};
    row_.max_tokens = 2;
  }
  static ScoredToken result(std::int32_t token, float logprob,
                            std::vector<stage::Candidate> top = {}) {
    return {token, logprob, std::move(top)};
  }
  json record(const std::vector<ScoredToken>& tokens, const std::vector<ScoredToken>& prompt = {}) {
    Answer answer(tokenizer_, row_, 2);
    for (const auto& one : prompt) answer.add_prompt_token({one.token, one.logprob, one.top});
    for (const auto& one : tokens) answer.add({one.token, one.logprob, one.top});
    if (tokens.empty()) answer.finish_without_tokens();
    const std::string line = answer_record(answer, {"demo", 1700000000});
    EXPECT_EQ(line.find('\n'), std::string::npos);
    return json::parse(line);
  }

  Tokenizer tokenizer_ = support::small_tokenizer({}, 270);
  RequestRow row_;
};

TEST_F(AnswerFormTest, ThePlainForm) {
  EXPECT_EQ(record({result(byte_id('a'), 0), result(2, 0)}),
            json::parse(R"({"custom_id": "id", "text": "a", "token_ids": [101, 2],
                            "finish_reason": "stop",
                            "usage": {"prompt_tokens": 4, "completion_tokens": 2}})"));
}

TEST_F(AnswerFormTest, TheBatchForm) {
  row_.form = RowForm::batch;
  const json made = record({result(byte_id('a'), 0), result(byte_id('\n'), 0)});
  EXPECT_EQ(made.at("custom_id"), "id");
  EXPECT_TRUE(made.at("error").is_null());
  EXPECT_TRUE(made.at("id").get<std::string>().starts_with("batch_req_"));
  const json& response = made.at("response");
  EXPECT_EQ(response.at("status_code"), 200);
  EXPECT_TRUE(response.at("request_id").is_string());
  json body = response.at("body");
  EXPECT_TRUE(body.at("id").get<std::string>().starts_with("cmpl-"));
  body.erase("id");
  EXPECT_EQ(body, json::parse(
                      R"({"object": "text_completion", "created": 1700000000, "model": "demo",
          "choices": [{"text": "a\n", "index": 0, "logprobs": null, "finish_reason": "length"}],
          "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}})"));
}

TEST_F(AnswerFormTest, EchoPutsThePromptInFront) {
  row_.echo = true;
  row_.prompt_text = "pé";
  EXPECT_EQ(record({result(byte_id('a'), 0), result(2, 0)}).at("text"), "péa");
  row_.max_tokens = 0;
  const json made = record({});
  EXPECT_EQ(made.at("text"), "pé");
  EXPECT_EQ(made.at("finish_reason"), "length");
  EXPECT_EQ(made.at("token_ids"), json::array());
}

TEST_F(AnswerFormTest, LogprobsHaveTheTokenItself) {
  row_.sampling.logprobs = 1;
  const json made = record({result(byte_id('a'), -2.5F, {{byte_id('b'), -0.5F}}),
                            result(byte_id('b'), -0.1F, {{byte_id('b'), -0.1F}})});
  EXPECT_EQ(made.at("logprobs"), json::parse(
                                     R"({"tokens": ["a", "b"], "token_logprobs": [-2.5, -0.1],
          "top_logprobs": [{"b": -0.5, "a": -2.5}, {"b": -0.1}], "text_offset": [0, 1]})"));
  // lm-eval compares these two for equality.
  EXPECT_EQ(made.at("logprobs").at("token_logprobs")[1],
            made.at("logprobs").at("top_logprobs")[1].at("b"));
}

TEST_F(AnswerFormTest, LogprobsOfZeroHaveTheTokenAlone) {
  row_.sampling.logprobs = 0;
  EXPECT_EQ(record({result(byte_id('a'), -1), result(2, -2)}).at("logprobs").at("top_logprobs"),
            json::parse(R"([{"a": -1.0}, {"</s>": -2.0}])"));
}

TEST_F(AnswerFormTest, EchoWithLogprobsHasThePromptsTokens) {
  row_.echo = true;
  row_.prompt_text = "pé";
  row_.sampling.logprobs = 0;
  const json made =
      record({result(byte_id('a'), -4), result(2, -5)},
             {result(byte_id('p'), -1), result(byte_id('\xC3'), -2), result(byte_id('\xA9'), -3)});
  EXPECT_EQ(made.at("logprobs"),
            json::parse(
                R"({"tokens": ["</s>", "p", "bytes:\\xc3", "bytes:\\xa9", "a", "</s>"],
          "token_logprobs": [null, -1.0, -2.0, -3.0, -4.0, -5.0],
          "top_logprobs": [null, {"p": -1.0}, {"bytes:\\xc3": -2.0}, {"bytes:\\xa9": -3.0},
                           {"a": -4.0}, {"</s>": -5.0}],
          "text_offset": [0, 0, 1, 1, 2, 3]})"));
}

TEST_F(AnswerFormTest, OffsetsStayWithinATextThatWasCut) {
  row_.stop = {"bc"};
  row_.max_tokens = 5;
  row_.sampling.logprobs = 0;
  const json made =
      record({result(byte_id('a'), -1), result(byte_id('b'), -1), result(byte_id('c'), -1)});
  EXPECT_EQ(made.at("text"), "a");
  EXPECT_EQ(made.at("logprobs").at("text_offset"), json::parse("[0, 1, 1]"));
}

TEST_F(AnswerFormTest, NoTwoTokensLookAlike) {
  row_.sampling.logprobs = 4;
  row_.max_tokens = 1;
  const json made = record({result(
      byte_id('\xC3'), -1, {{byte_id('\xC3'), -1}, {byte_id('\xA9'), -2}, {268, -3}, {269, -4}})});
  EXPECT_EQ(made.at("logprobs").at("top_logprobs")[0].size(), 4U);
}

TEST_F(AnswerFormTest, NumbersStayShortAndFinite) {
  row_.sampling.logprobs = 0;
  row_.max_tokens = 1;
  Answer answer(tokenizer_, row_, 2);
  answer.add({.token = byte_id('a'), .logprob = -0.1F});
  EXPECT_NE(answer_record(answer, {}).find("\"token_logprobs\":[-0.1]"), std::string::npos);
  const json made = record({result(byte_id('a'), -std::numeric_limits<float>::infinity())});
  EXPECT_EQ(made.at("logprobs").at("token_logprobs")[0], -9999.0);
}

TEST_F(AnswerFormTest, Failures) {
  EXPECT_EQ(json::parse(failure_record({4, "id", RowForm::plain, "bad", "top_p", ""})),
            json::parse(R"({"custom_id": "id", "line": 4, "error": {"message": "bad",
                            "type": "invalid_request_error", "param": "top_p"}})"));
  json batch = json::parse(failure_record({4, "id", RowForm::batch, "bad", "", ""}));
  EXPECT_EQ(batch.at("custom_id"), "id");
  EXPECT_TRUE(batch.at("error").is_null());
  EXPECT_EQ(batch.at("response").at("status_code"), 400);
  EXPECT_EQ(batch.at("response").at("body"),
            json::parse(R"({"error": {"message": "bad", "type": "invalid_request_error",
                                      "param": null, "code": null}})"));
  batch = json::parse(failure_record({4, "id", RowForm::batch, "bad", "", "", true}));
  EXPECT_EQ(batch.at("response").at("status_code"), 500);
  EXPECT_EQ(batch.at("response").at("body").at("error").at("type"), "server_error");
}

TEST_F(AnswerFormTest, AnEmbeddingStandsInPlaceOfAnAnswer) {
  row_.max_tokens = 0;
  row_.embed = stage::Embed::mean;
  row_.kept_fields = R"({"gold":1})";
  Answer answer(tokenizer_, row_, 2);
  answer.set_embedding(std::vector<float>{0.5F, -0.1F});
  answer.finish_without_tokens();
  EXPECT_EQ(answer_record(answer, {"demo", 1700000000}),
            R"({"custom_id":"id","embedding":[0.5,-0.1],"usage":{"prompt_tokens":4},)"
            R"("fields":{"gold":1}})");
  row_.form = RowForm::chat;
  const json made = json::parse(answer_record(answer, {"demo", 1700000000}));
  EXPECT_EQ(made.at("response").at("body").at("object"), "embedding");
  EXPECT_EQ(made.at("response").at("body").at("embedding").size(), 2U);
  EXPECT_EQ(made.at("fields").at("gold"), 1);
}

class ScoreFormTest : public AnswerFormTest {
 protected:
  void SetUp() override {
    AnswerFormTest::SetUp();
    row_.max_tokens = 0;
    row_.choices = {{"ab", {5, 6}}, {"\xC3\xA9", {7}}, {"", {8}}};
  }
  json scores(const std::vector<std::vector<float>>& logprobs) {
    std::vector<Answer> answers;
    for (std::size_t i = 0; i < row_.choices.size(); ++i) {
      Answer& answer = answers.emplace_back(tokenizer_, row_, 2);
      for (std::size_t k = 0; k < row_.choices[i].tokens.size(); ++k) {
        answer.add_prompt_token({row_.choices[i].tokens[k], logprobs[i][k], {}});
      }
      answer.finish_without_tokens();
    }
    return json::parse(answer_record(answers, {"demo", 1700000000}));
  }
};

TEST_F(ScoreFormTest, EachMeasureHasItsBest) {
  EXPECT_EQ(scores({{-1, -2}, {-2.5F}, {-2.75F}}), json::parse(R"({"custom_id": "id", "scores": [
                {"text": "ab", "logprob": -3, "logprob_per_token": -1.5, "logprob_per_byte": -1.5,
                 "token_ids": [5, 6], "token_logprobs": [-1, -2]},
                {"text": "\u00e9", "logprob": -2.5, "logprob_per_token": -2.5,
                 "logprob_per_byte": -1.25, "token_ids": [7], "token_logprobs": [-2.5]},
                {"text": "", "logprob": -2.75, "logprob_per_token": -2.75,
                 "logprob_per_byte": null, "token_ids": [8], "token_logprobs": [-2.75]}],
                "best": 1, "best_per_token": 0, "best_per_byte": 1,
                "usage": {"prompt_tokens": 4, "choice_tokens": 4}})"));
}

TEST_F(ScoreFormTest, OfEqualChoicesTheFirstIsBestAndNeverIsANumber) {
  const float never = -std::numeric_limits<float>::infinity();
  const json made = scores({{-1, never}, {-4}, {-4}});
  EXPECT_EQ(made.at("best"), 1);
  EXPECT_EQ(made.at("scores")[0].at("logprob"), -9999.0);
  EXPECT_EQ(made.at("scores")[0].at("token_logprobs")[1], -9999.0);
}

TEST_F(ScoreFormTest, BatchRowsHaveThemInTheBody) {
  row_.form = RowForm::batch;
  row_.kept_fields = R"({"gold":1})";
  const json made = scores({{-1, -2}, {-2.5F}, {-2.75F}});
  EXPECT_EQ(made.at("response").at("body").at("best"), 1);
  EXPECT_EQ(made.at("response").at("body").at("object"), "score");
  EXPECT_EQ(made.at("fields").at("gold"), 1);
}

}  // namespace
}  // namespace sluice::launcher
