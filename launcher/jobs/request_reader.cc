#include "launcher/jobs/request_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

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

void skip_blanks(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
}

}  // namespace

RowDraft draft(const InputLine& line, const RequestParser& parser,
               const RequestParser::IsAnswered& is_answered) {
  if (line.too_long) return too_long(line.number);
  return line.is_json ? parser.draft_json(line.text, line.number, is_answered)
                      : parser.draft_text(line.text, line.number, is_answered);
}

std::optional<RowDraft> name_alone(const InputLine& line) {
  constexpr std::string_view kName = "\"custom_id\"";
  std::string_view rest = line.text;
  if (!line.is_json || line.too_long || !rest.starts_with('{')) return {};
  rest.remove_prefix(1);
  if (!rest.starts_with(kName)) return {};
  rest.remove_prefix(kName.size());
  skip_blanks(rest);
  if (!rest.starts_with(':')) return {};
  rest.remove_prefix(1);
  skip_blanks(rest);
  if (!rest.starts_with('"')) return {};
  rest.remove_prefix(1);
  const std::size_t end = rest.find_first_of("\"\\");
  if (end == std::string_view::npos || rest[end] == '\\') return {};
  const std::string_view id = rest.substr(0, end);
  rest.remove_prefix(end);
  // Another such field, and the batch form, are for the parser.
  for (const std::string_view other :
       {kName, std::string_view("\"body\""), std::string_view("\"url\""),
        std::string_view("\"method\"")}) {
    if (rest.find(other) != std::string_view::npos) return {};
  }
  if (rest.find("\\u00") != std::string_view::npos) return {};  // may hide one
  RequestRow row;
  row.line = line.number;
  row.custom_id = id;
  RowDraft draft;
  draft.row = std::move(row);
  draft.has_form = true;
  draft.left_out = true;
  return draft;
}

ParsedRow parse(const InputLine& line, RequestParser& parser) {
  return parser.settle(draft(line, parser));
}

}  // namespace sluice::launcher
