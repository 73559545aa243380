#include "launcher/jobs/request_reader.h"

#include <fmt/format.h>

namespace sluice::launcher {
namespace {

RowFailure too_long(std::int64_t line, RowForm form) {
  RowFailure failure;
  failure.line = line;
  failure.custom_id = default_custom_id(line);
  failure.naming = Naming::made_up;
  failure.form = form;
  failure.message = fmt::format("line {} has more than {} bytes, the most that a row may have",
                                line, kMaxLineBytes);
  return failure;
}

}  // namespace

RequestParser::Parsed parse(const InputLines& lines, const std::string& line,
                            RequestParser& parser) {
  if (lines.too_long()) return too_long(lines.number(), parser.last_form());
  return lines.is_json() ? parser.parse_json(line, lines.number())
                         : parser.parse_text(line, lines.number());
}

std::optional<RequestParser::Parsed> RequestReader::next() {
  if (!lines_.next(line_)) return std::nullopt;
  return parse(lines_, line_, parser_);
}

}  // namespace sluice::launcher
