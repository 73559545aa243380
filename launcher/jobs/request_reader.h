// A line of a job's input to its row.
#pragma once

#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/request_parser.h"

namespace sluice::launcher {

/// What the line says by itself. Any thread.
RowDraft draft(const InputLine& line, const RequestParser& parser,
               const RequestParser::IsAnswered& is_answered = {});

/// The row, or what is wrong with it. In the input's order.
ParsedRow parse(const InputLine& line, RequestParser& parser);

}  // namespace sluice::launcher
