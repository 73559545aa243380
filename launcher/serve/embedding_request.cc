#include "launcher/serve/embedding_request.h"

#include <fmt/format.h>

#include <utility>

#include "launcher/jobs/row_fields.h"
#include "launcher/serve/api_error.h"

namespace sluice::launcher {
namespace {

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

}  // namespace sluice::launcher
