// Conversations as rows of a job: read, answered, and on the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "launcher/chat/chat_template.h"
#include "launcher/chat/tokenize_command.h"
#include "launcher/jobs/answer_form.h"
#include "launcher/jobs/input_scan.h"
#include "launcher/jobs/request_parser.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using Ids = std::vector<std::int32_t>;
using support::byte_id;
using testing::HasSubstr;

constexpr const char* kTemplate =
    "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments | tojson }}{% endif %}"
    "{% endfor %}{% if tools %}T{% endif %}{% if add_generation_prompt %}a{% endif %}";

class ChatRowsTest : public testing::Test {
 protected:
  RequestRow accept(const std::string& line) {
    auto parsed = parser_.parse_json(line, 3);
    if (const auto* failure = std::get_if<RowFailure>(&parsed)) {
      ADD_FAILURE() << line << ": " << failure->message;
      return {};
    }
    return std::get<RequestRow>(parsed);
  }
  RowFailure refuse(const std::string& line, RowForm form, const std::string& param) {
    auto parsed = parser_.parse_json(line, 3);
    if (std::holds_alternative<RequestRow>(parsed)) {
      ADD_FAILURE() << "accepted: " << line;
      return {};
    }
    const auto failure = std::get<RowFailure>(parsed);
    EXPECT_EQ(failure.param, param) << line << ": " << failure.message;
    EXPECT_EQ(failure.form, form) << line;
    EXPECT_THAT(failure.message, HasSubstr("line 3: "));
    return failure;
  }
  /// {"url": "/v1/chat/completions", "body": {<messages>, <more>}}
  static std::string chat_row(const std::string& more = "") {
    return R"({"custom_id": "q", "method": "POST", "url": "/v1/chat/completions", "body": )"
           R"({"model": "m", "messages": [{"role": "user", "content": "hi"}])" +
           more + "}}";
  }

  Tokenizer tokenizer_ = support::small_tokenizer({}, 270);
  ChatTemplate chat_{kTemplate, "test", Json({{"bos_token", "</s>"}})};
  RequestParser parser_{tokenizer_, {}, {270, 64}, &chat_};
};

TEST_F(ChatRowsTest, MessagesBecomeTheTextOfTheTemplate) {
  const RequestRow row = accept(
      R"({"custom_id": "c", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3})");
  // One BOS: the template's.
  EXPECT_EQ(row.prompt, (Ids{2, byte_id('u'), byte_id('h'), byte_id('i'), byte_id('a')}));
  EXPECT_EQ(row.form, RowForm::plain);
  EXPECT_EQ(row.max_tokens, 3);
  EXPECT_EQ(accept(R"({"messages": [{"role": "user", "content": "hi"}], "tools": [{}],
                       "add_generation_prompt": false, "max_completion_tokens": 2})")
                .prompt,
            (Ids{2, byte_id('u'), byte_id('h'), byte_id('i'), byte_id('T')}));
  EXPECT_TRUE(parser_.take_warnings().empty());
}

TEST_F(ChatRowsTest, TheBatchFormOfChats) {
  const RequestRow row =
      accept(chat_row(R"(, "max_completion_tokens": 2, "max_tokens": 9, "logprobs": true,
                  "top_logprobs": 4, "stop": ["x"], "tool_choice": "auto", "user": "u",
                  "response_format": {"type": "text"}, "n": 1, "stream": false)"));
  EXPECT_EQ(row.form, RowForm::chat);
  EXPECT_EQ(row.custom_id, "q");
  EXPECT_EQ(row.max_tokens, 2);
  EXPECT_EQ(row.sampling.logprobs, 4);
  EXPECT_EQ(row.prompt.size(), 5U);
  EXPECT_EQ(accept(chat_row(R"(, "logprobs": true)")).sampling.logprobs, 0);
  EXPECT_EQ(accept(chat_row(R"(, "logprobs": false)")).sampling.logprobs, -1);
  EXPECT_EQ(accept(chat_row(R"(, "logprobs": null)")).sampling.logprobs, -1);
  EXPECT_TRUE(parser_.take_warnings().empty());
  accept(chat_row(R"(, "metadata": {})"));
  EXPECT_EQ(parser_.take_warnings().size(), 1U);
}

TEST_F(ChatRowsTest, ArgumentsOfToolCallsAreObjectsInOpenAIsForm) {
  const std::string call =
      R"([{"role": "user", "content": "", "tool_calls": [{"type": "function", "function":
          {"name": "f", "arguments": "{\"a\": 1}"}}]}])";
  const auto text_of = [&](const RequestRow& row) { return tokenizer_.decode(row.prompt, true); };
  EXPECT_EQ(
      text_of(accept(R"({"url": "/v1/chat/completions", "body": {"messages": )" + call + "}}")),
      "u{\"a\": 1}a");
  // As transformers would have it.
  EXPECT_EQ(text_of(accept(R"({"messages": )" + call + "}")), "u\"{\\\"a\\\": 1}\"a");
}

TEST_F(ChatRowsTest, WhatIsRefused) {
  const std::string hi = R"("messages": [{"role": "user", "content": "hi"}])";
  refuse("{" + hi + R"(, "prompt": "a"})", RowForm::plain, "prompt");
  refuse("{" + hi + R"(, "echo": true})", RowForm::plain, "echo");
  refuse("{" + hi + R"(, "n": 0})", RowForm::plain, "n");
  refuse("{" + hi + R"(, "add_generation_prompt": "yes"})", RowForm::plain,
         "add_generation_prompt");
  refuse("{" + hi + R"(, "tools": 3})", RowForm::plain, "tools");
  refuse("{" + hi + R"(, "max_completion_tokens": -1})", RowForm::plain, "max_completion_tokens");
  refuse(R"({"messages": []})", RowForm::plain, "messages");
  refuse(R"({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 60})", RowForm::plain,
         "max_tokens");
  refuse(R"({"url": "/v1/chat/completions", "body": {"prompt": "a"}})", RowForm::chat, "messages");
  refuse(R"({"url": "/v1/completions", "body": {)" + hi + "}}", RowForm::batch, "prompt");
  refuse(chat_row(R"(, "tool_choice": "required")"), RowForm::chat, "tool_choice");
  refuse(chat_row(R"(, "response_format": {"type": "xml"})"), RowForm::chat, "response_format");
  refuse(chat_row(R"(, "logprobs": 3)"), RowForm::chat, "logprobs");
  refuse(chat_row(R"(, "top_logprobs": 3)"), RowForm::chat, "top_logprobs");
  refuse(chat_row(R"(, "logprobs": true, "top_logprobs": 21)"), RowForm::chat, "top_logprobs");
  const std::string huge = R"({"messages": [{"role": "user", "content": ")";
  EXPECT_THAT(refuse(huge + std::string(100, 'x') + R"("}]})", RowForm::plain, "messages").message,
              HasSubstr("64 positions"));
  EXPECT_THAT(refuse(huge + std::string(9999, 'x') + R"("}]})", RowForm::plain, "messages").message,
              HasSubstr("64 positions"));
  const ChatTemplate silent("{# #}", "test", Json::object());
  const auto parsed =
      RequestParser(tokenizer_, {}, {270, 64}, &silent).parse_json("{" + hi + "}", 1);
  EXPECT_THAT(std::get<RowFailure>(parsed).message, HasSubstr("no text"));
  RequestParser without(tokenizer_, {}, {270, 64});
  EXPECT_TRUE(std::holds_alternative<RowFailure>(without.parse_json("{" + hi + "}", 1)));
}

TEST_F(ChatRowsTest, TheChatCompletion) {
  RequestRow row = accept(chat_row(R"(, "max_tokens": 2, "logprobs": true, "top_logprobs": 1)"));
  Answer answer(tokenizer_, row, 2);
  const std::int32_t token = byte_id('\xC3');
  const std::vector<stage::Candidate> top = {{byte_id('z'), -0.25F}};
  answer.add({token, -0.5F, top});
  answer.add({2, 0.0F, {}});
  const Json record = Json::parse(answer_record(answer, {"demo", 1700000000}));
  EXPECT_EQ(record.at("custom_id"), "q");
  EXPECT_TRUE(record.at("error").is_null());
  const Json& response = record.at("response");
  EXPECT_EQ(response.at("status_code"), 200);
  Json body = response.at("body");
  EXPECT_TRUE(body.at("id").text().starts_with("chatcmpl-"));
  body["id"] = "";
  EXPECT_EQ(body, Json::parse(R"({"id": "", "object": "chat.completion", "created": 1700000000,
      "model": "demo", "choices": [{"index": 0,
          "message": {"role": "assistant", "content": "\ufffd", "refusal": null},
          "logprobs": {"content": [
              {"token": "bytes:\\xc3", "logprob": -0.5, "bytes": [195],
               "top_logprobs": [{"token": "z", "logprob": -0.25, "bytes": [122]}]},
              {"token": "</s>", "logprob": 0, "bytes": [60, 47, 115, 62], "top_logprobs": []}],
              "refusal": null},
          "finish_reason": "stop"}],
      "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})"));
  RowFailure failure;
  failure.form = RowForm::chat;
  failure.custom_id = "q";
  const Json refused = Json::parse(failure_record(failure));
  EXPECT_EQ(refused.at("response").at("status_code"), 400);
  EXPECT_TRUE(refused.at("response").at("body").at("error").contains("code"));
}

// A template may write more than the row has.
TEST_F(ChatRowsTest, NoConversationHasMoreTokensThanItsBound) {
  const ChatTemplate wordy("{{ 'word ' * 80 }}{{ messages[0].content }}", "test", Json::object());
  RequestParser parser(tokenizer_, {}, {270, 5000}, &wordy);
  for (const std::string& line :
       {std::string(R"({"messages": [{"role": "user", "content": "hi"}]})"),
        chat_row(R"(, "max_completion_tokens": 300)")}) {
    const auto parsed = parser.parse_json(line, 1);
    const auto& row = std::get<RequestRow>(parsed);
    EXPECT_GT(row.prompt.size(), line.size());
    EXPECT_GE(most_tokens_of(line, true, parser),
              static_cast<std::int64_t>(row.prompt.size()) + row.max_tokens);
  }
  EXPECT_LE(most_tokens_of(R"({"messages": [], "max_tokens": 1})", true, parser), 100);
}

TEST_F(ChatRowsTest, TokenizeWritesTextAndIds) {
  std::istringstream in(
      "{\"messages\": [{\"role\": \"user\", \"content\": \"h\"}]}\r\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"h\"}], \"tools\": [{}], "
      "\"add_generation_prompt\": false}\n"
      "{\"messages\": 3}\n[]\n{\n");
  std::ostringstream out;
  std::ostringstream errors;
  EXPECT_EQ(tokenize_lines(tokenizer_, {.chat = &chat_}, in, out, errors), ExitStatus::rows_failed);
  EXPECT_EQ(out.str(),
            "{\"text\":\"</s>uha\",\"ids\":[2,121,108,101]}\n"
            "{\"text\":\"</s>uhT\",\"ids\":[2,121,108,88]}\n");
  for (const char* part : {"line 3: messages", "line 4: ", "line 5: "}) {
    EXPECT_THAT(errors.str(), HasSubstr(part));
  }
}

}  // namespace
}  // namespace sluice::launcher
