#include "launcher/serve/score_request.h"

#include <fmt/format.h>

#include <numeric>
#include <utility>

#include "launcher/jobs/choice_fields.h"
#include "launcher/jobs/row_fields.h"
#include "launcher/jobs/score_form.h"
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

double cosine(std::span<const float> left, std::span<const float> right) {
  const std::vector<float> a = normalized(left);
  const std::vector<float> b = normalized(right);
  return std::inner_product(
      a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
      [](float x, float y) { return static_cast<double>(x) * static_cast<double>(y); });
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

Json score_answer(const ScoreForm& form, const CompletionName& name,
                  const WholeExchange::Rows& rows) {
  if (form.choices) {
    Json answer = head_of(name, "score");
    for (auto& [member, value] : score_members(rows.front()->answers)) {
      answer[member] = std::move(value);
    }
    return answer;
  }
  const auto embedding = [&rows](std::size_t row) -> const std::vector<float>& {
    return rows[row]->answers.front().embedding();
  };
  Json data = Json::array();
  for (std::size_t i = 0; i + form.firsts < rows.size(); ++i) {
    const std::size_t first = form.firsts == 1 ? 0 : i;
    data.push_back({{"index", i},
                    {"object", "score"},
                    {"score", cosine(embedding(first), embedding(form.firsts + i))}});
  }
  Json answer = head_of(name, "list");
  answer["data"] = std::move(data);
  answer["usage"] = prompt_usage(rows);
  return answer;
}

}  // namespace sluice::launcher
