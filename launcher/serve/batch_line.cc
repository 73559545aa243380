#include "launcher/serve/batch_line.h"

#include <fmt/format.h>

#include "launcher/jobs/readable_id.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/row_fields.h"
#include "launcher/jobs/row_ids.h"

namespace sluice::launcher {
namespace {

Json parse_line(std::string_view text, BatchLine& line) {
  try {
    return Json::parse(text);
  } catch (const JsonError& problem) {
    if (auto id = readable_custom_id(text)) {
      line.custom_id = std::move(*id);
      line.named = true;
    }
    throw RowProblem{fmt::format("the line is no JSON: {}", problem.what()), ""};
  }
}

void read(const Json& object, std::string_view endpoint, BatchLine& line) {
  if (!object.is_object()) throw RowProblem{"the line is no JSON object", ""};
  const RowFields fields(object);
  const auto id = fields.text("custom_id");
  if (!id || id->empty()) throw RowProblem{"the line has no custom_id", "custom_id"};
  line.custom_id = *id;
  line.named = true;
  const std::string method = fields.text("method").value_or("");
  if (method != "POST") {
    throw RowProblem{fmt::format("method is {}; it must be \"POST\"", shown(method)), "method"};
  }
  const std::string url = fields.text("url").value_or("");
  if (url != endpoint) {
    throw RowProblem{
        fmt::format("url is {}, but the batch is for {}", shown(url), shown(Json(endpoint))),
        "url"};
  }
  const Json* body = fields.find("body");
  if (body == nullptr || !body->is_object()) {
    throw RowProblem{"the line has no body, or one that is no JSON object", "body"};
  }
  const Json& stream = body->member("stream");
  if (!stream.is_null() && stream != false) {
    throw RowProblem{"a line of a batch cannot be streamed; leave stream out", "stream"};
  }
  line.body = *body;
}

}  // namespace

std::uint64_t BatchLine::key() const { return named ? key_of_id(custom_id) : key_of_line(number); }

BatchLine read_batch_line(std::string_view text, std::int64_t number, std::string_view endpoint) {
  BatchLine line;
  line.number = number;
  try {
    read(parse_line(text, line), endpoint, line);
  } catch (const RowProblem& problem) {
    line.problem = ApiError{400, fmt::format("line {}: {}", number, problem.message), problem.param,
                            problem.code};
  }
  return line;
}

std::string batch_record(const BatchLine& line, int status, const std::string& body) {
  const std::string digits =
      fmt::format("{:016x}", default_seed(static_cast<std::uint64_t>(line.number), line.custom_id));
  const std::string name =
      line.named ? Json(line.custom_id).dump() : fmt::format("null,\"line\":{}", line.number);
  return fmt::format(
      "{{\"id\":\"batch_req_{0}\",\"custom_id\":{1},\"response\":{{\"status_code\":"
      "{2},\"request_id\":\"req_{0}\",\"body\":{3}}},\"error\":null}}",
      digits, name, status, body);
}

}  // namespace sluice::launcher
