#include "launcher/jobs/request_reader.h"

#include <fmt/format.h>

namespace sluice::launcher {
namespace {

RowDraft too_long(std::int64_t line) {
  RowFailure failure;
  failure.line = line;
  failure.custom_id = default_custom_id(line);
  failure.naming = Naming::made_up;
  failure.message = fmt::format("line {} has more than {} bytes, the most that a row may have",
                                line, kMaxLineBytes);
  RowDraft draft;
  draft.row = std::move(failure);
  return draft;
}

}  // namespace

RowDraft draft(const InputLine& line, const RequestParser& parser,
               const RequestParser::IsAnswered& is_answered) {
  if (line.too_long) return too_long(line.number);
  return line.is_json ? parser.draft_json(line.text, line.number, is_answered)
                      : parser.draft_text(line.text, line.number, is_answered);
}

ParsedRow parse(const InputLine& line, RequestParser& parser) {
  return parser.settle(draft(line, parser));
}

}  // namespace sluice::launcher
