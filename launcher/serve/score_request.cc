#include "launcher/serve/score_request.h"

#include <fmt/format.h>

#include <utility>

#include "launcher/jobs/choice_fields.h"
#include "launcher/jobs/row_fields.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/embedding_request.h"

namespace sluice::launcher {
namespace {

/// A text, or a list of them.
std::vector<Json> texts_of(const Json& body, const char* name) {
  const Json& value = body.member(name);
  if (value.is_string()) return std::vector<Json>(1, value);
  if (!value.is_array() || value.empty())
    RowFields::refuse(name, value, "a text or a list of texts");
  if (value.size() > kMostPrompts) {
    throw RowProblem{
        fmt::format("{} is a list of {} texts; it may have {}", name, value.size(), kMostPrompts),
        name};
  }
  for (const Json& text : value) {
    if (!text.is_string()) RowFields::refuse(name, text, "a text or a list of texts");
  }
  return std::vector<Json>(value.begin(), value.end());
}

ScoreRequest read_pairs(const Json& body, CompletionParser& parser, const std::string& id) {
  const std::vector<Json> firsts = texts_of(body, "text_1");
  const std::vector<Json> seconds = texts_of(body, "text_2");
  if (firsts.size() != 1 && firsts.size() != seconds.size()) {
    throw RowProblem{fmt::format("text_1 has {} texts and text_2 has {}; give text_1 one, or as "
                                 "many as text_2",
                                 firsts.size(), seconds.size()),
                     "text_1"};
  }
  ScoreRequest request;
  request.form.firsts = firsts.size();
  const Json::Object rest = without(body, {"text_1", "text_2", "prompt"});
  const auto add = [&](const std::vector<Json>& texts, const char* name) {
    for (const Json& text : texts) {
      request.rows.push_back(
          embedded_row(rest, text, name, parser, fmt::format("{}-{}", id, request.rows.size())));
    }
  };
  add(firsts, "text_1");
  add(seconds, "text_2");
  return request;
}

}  // namespace

ScoreRequest read_score(const Json& body, CompletionParser& parser, const std::string& id) {
  try {
    if (!has_choices(body)) return read_pairs(body, parser, id);
    const bool chat = !body.member("messages").is_null();
    Json row = body;
    if (chat) row["messages"] = with_plain_contents(body.member("messages"));
    ScoreRequest request;
    request.form.choices = true;
    request.rows.push_back(
        parser.parse_row(row, chat ? CompletionKind::chat : CompletionKind::text, id));
    return request;
  } catch (const RowProblem& problem) {
    throw ApiError{400, problem.message, problem.param};
  }
}

}  // namespace sluice::launcher
