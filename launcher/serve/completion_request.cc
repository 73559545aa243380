#include "launcher/serve/completion_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <variant>

#include "launcher/jobs/row_fields.h"
#include "launcher/serve/api_error.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMostAnswers = 8192;  // to all prompts of a request

/// A list of prompts as one each; else the prompt alone.
std::vector<Json> prompts_of(const Json& prompt) {
  const bool is_list = prompt.is_array() && !prompt.empty() &&
                       (prompt.front().is_string() || prompt.front().is_array());
  if (!is_list) return std::vector<Json>(1, prompt);
  if (prompt.size() > kMostPrompts) {
    throw ApiError{
        400,
        fmt::format("prompt is a list of {} prompts; it may have {}", prompt.size(), kMostPrompts),
        "prompt"};
  }
  return std::vector<Json>(prompt.begin(), prompt.end());
}

void read_stream(const Json& body, CompletionRequest& request) {
  const RowFields fields(body);
  request.stream = fields.boolean("stream").value_or(false);
  request.return_token_ids = fields.boolean("return_token_ids").value_or(false);
  const Json* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) RowFields::refuse("stream_options", *options, "an object");
  if (!request.stream) {
    throw RowProblem{"stream_options is given without stream: true", "stream_options"};
  }
  request.include_usage = RowFields(*options).boolean("include_usage").value_or(false);
}

/// Each answer takes memory as long as it waits.
void check_answers(const RequestRow& row, std::size_t prompts) {
  const std::size_t answers = prompts * static_cast<std::size_t>(row.best_of);
  if (answers <= kMostAnswers) return;
  throw RowProblem{fmt::format("the prompts ask for {} answers together; a request may ask for {}",
                               answers, kMostAnswers),
                   row.best_of > row.n ? "best_of" : "n"};
}

/// A stream cannot take back what it has given out.
void check_stream(const RequestRow& row) {
  if (row.best_of > row.n) {
    throw RowProblem{"best_of above n cannot be streamed: the best is known at the end", "best_of"};
  }
  if (row.beams.beams > 1) {
    throw RowProblem{"num_beams above 1 cannot be streamed: the best is known at the end",
                     "num_beams"};
  }
}

Json plain_content(const Json& content) {
  if (!content.is_array()) return content;
  std::string text;
  for (const Json& part : content) {
    const Json& said = part.member("text");
    if (part.member("type") != "text" || !said.is_string()) {
      throw ApiError{
          400, fmt::format("a message has the content {}; only texts are answered", shown(part)),
          "messages"};
    }
    if (!text.empty()) text += '\n';
    text += said.text();
  }
  return text;
}

}  // namespace

Json parse_body(const std::string& body) {
  try {
    Json parsed = Json::parse(body);
    if (parsed.is_object()) return parsed;
  } catch (const JsonError& problem) {
    switch (problem.kind()) {
      case JsonError::Kind::duplicate:
        throw ApiError{400, fmt::format("the field {} is given twice", shown(problem.key())),
                       problem.key()};
      case JsonError::Kind::depth:
        throw ApiError{400, "the body is nested too deeply"};
      default:
        throw ApiError{400, fmt::format("the body is no JSON: {}", problem.what())};
    }
  }
  throw ApiError{400, "the body is no JSON object"};
}

Json::Object without(const Json& body, std::initializer_list<std::string_view> names) {
  Json::Object kept;
  for (const auto& member : body.items()) {
    if (std::ranges::count(names, member.first) == 0) kept.push_back(member);
  }
  return kept;
}

std::string text_field(const Json& body, const char* name) {
  const Json& value = body.member(name);
  if (value.is_null()) return {};
  if (!value.is_string()) {
    throw ApiError{400, fmt::format("{} is {}; it must be a text", name, shown(value)), name};
  }
  return value.text();
}

Json with_plain_contents(const Json& messages) {
  if (!messages.is_array()) return messages;  // it will be refused
  Json plain = Json::array();
  for (const Json& message : messages) {
    plain.push_back(message);
    if (message.member("content").is_array()) {
      plain.back()["content"] = plain_content(message.member("content"));
    }
  }
  return plain;
}

RequestRow CompletionParser::parse_row(const Json& body, CompletionKind kind,
                                       const std::string& id) {
  const RowForm form = kind == CompletionKind::chat ? RowForm::chat : RowForm::batch;
  RequestParser& parser = kind == CompletionKind::chat ? chats_ : texts_;
  RowDraft draft = parser.draft_body(body, form, id);
  const std::lock_guard lock(mutex_);
  ParsedRow row = parser.settle(std::move(draft));
  if (const auto* failure = std::get_if<RowFailure>(&row)) {
    throw ApiError{400, failure->message, failure->param, failure->code};
  }
  return std::get<RequestRow>(std::move(row));
}

CompletionRequest CompletionParser::parse(const Json& body, CompletionKind kind,
                                          const std::string& id) {
  CompletionRequest request;
  try {
    read_stream(body, request);
    for (const char* name : {"choices", "embed"}) {
      if (body.member(name).is_null()) continue;
      throw RowProblem{fmt::format("{} is no field of a completion; leave it out", name), name};
    }
  } catch (const RowProblem& problem) {
    throw ApiError{400, problem.message, problem.param};
  }
  const bool chat = kind == CompletionKind::chat;
  const char* const asked = chat ? "messages" : "prompt";
  const Json::Object rest = without(body, {"stream", "stream_options", "return_token_ids", asked});
  const Json& given = body.member(asked);
  const auto prompts = chat ? std::vector{with_plain_contents(given)} : prompts_of(given);
  for (const Json& prompt : prompts) {
    Json::Object members = rest;
    members.emplace_back(asked, prompt);
    request.rows.push_back(
        parse_row(Json(std::move(members)), kind, fmt::format("{}-{}", id, request.rows.size())));
    try {
      check_answers(request.rows.back(), prompts.size());
      if (request.stream) check_stream(request.rows.back());
    } catch (const RowProblem& problem) {
      throw ApiError{400, problem.message, problem.param};
    }
  }
  return request;
}

std::vector<std::string> CompletionParser::take_warnings() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> said = texts_.take_warnings();
  std::ranges::move(chats_.take_warnings(), std::back_inserter(said));
  return said;
}

}  // namespace sluice::launcher
