#include "launcher/serve/embedding_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "launcher/jobs/row_fields.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/http_text.h"

namespace sluice::launcher {
namespace {

/// The lowest byte first, on any machine.
std::string bytes_of(std::span<const float> values) {
  std::string bytes;
  for (const float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xFFU);
  }
  return bytes;
}

EmbeddingForm read_form(const Json& body, std::int32_t width) {
  const RowFields fields(body);
  EmbeddingForm form;
  const std::string encoding = fields.text("encoding_format").value_or("float");
  if (encoding != "float" && encoding != "base64") {
    RowFields::refuse("encoding_format", encoding, "\"float\" or \"base64\"");
  }
  form.base64 = encoding == "base64";
  form.normalize = fields.boolean("normalize").value_or(true);
  const auto dimensions = fields.integer("dimensions", 1, INT32_MAX);
  if (dimensions && *dimensions != width) {
    throw RowProblem{fmt::format("dimensions is {}, but this model's embeddings have {} numbers; "
                                 "leave it out",
                                 *dimensions, width),
                     "dimensions"};
  }
  return form;
}

/// Each of them a text or token ids.
std::vector<Json> inputs_of(const Json& input) {
  if (input.is_null()) throw RowProblem{"there is no input", "input"};
  const bool is_list =
      input.is_array() && !input.empty() && (input.front().is_string() || input.front().is_array());
  if (!is_list) return std::vector<Json>(1, input);
  if (input.size() > kMostPrompts) {
    throw RowProblem{
        fmt::format("input is a list of {} texts; it may have {}", input.size(), kMostPrompts),
        "input"};
  }
  return std::vector<Json>(input.begin(), input.end());
}

}  // namespace

std::vector<float> normalized(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  std::vector<float> result(values.begin(), values.end());
  if (sum == 0) return result;
  const double length = std::sqrt(sum);
  for (float& value : result) value = static_cast<float>(static_cast<double>(value) / length);
  return result;
}

RequestRow embedded_row(Json::Object members, const Json& prompt, const char* param,
                        CompletionParser& parser, const std::string& id) {
  members.emplace_back("prompt", prompt);
  Json row(std::move(members));
  if (row.member("embed").is_null()) row["embed"] = "mean";
  try {
    return parser.parse_row(row, CompletionKind::text, id);
  } catch (ApiError& error) {
    if (error.param == "prompt") error.param = param;
    throw;
  }
}

EmbeddingRequest read_embedding(const Json& body, CompletionParser& parser, std::int32_t width,
                                const std::string& id) {
  EmbeddingRequest request;
  try {
    request.form = read_form(body, width);
    const Json::Object rest =
        without(body, {"input", "encoding_format", "normalize", "dimensions", "prompt"});
    for (const Json& input : inputs_of(body.member("input"))) {
      request.rows.push_back(embedded_row(rest, input, "input", parser,
                                          fmt::format("{}-{}", id, request.rows.size())));
    }
  } catch (const RowProblem& problem) {
    throw ApiError{400, problem.message, problem.param};
  }
  return request;
}

Json prompt_usage(const WholeExchange::Rows& rows) {
  std::size_t tokens = 0;
  for (const auto& row : rows) {
    tokens += row->row.prompt.size();
    for (const Choice& choice : row->row.choices) tokens += choice.tokens.size();
  }
  return {{"prompt_tokens", tokens}, {"completion_tokens", 0}, {"total_tokens", tokens}};
}

Json embedding_answer(const EmbeddingForm& form, const CompletionName& name,
                      const WholeExchange::Rows& rows) {
  Json data = Json::array();
  for (const auto& row : rows) {
    std::vector<float> values = row->answers.front().embedding();
    if (form.normalize) values = normalized(values);
    data.push_back(
        {{"object", "embedding"},
         {"index", data.size()},
         {"embedding", form.base64 ? Json(encode_base64(bytes_of(values))) : Json(values)}});
  }
  Json answer = head_of(name, "list");
  answer["data"] = std::move(data);
  answer["usage"] = prompt_usage(rows);
  return answer;
}

}  // namespace sluice::launcher
