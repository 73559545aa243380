// A line of a job's input to its row.
#pragma once

#include <optional>

#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/request_parser.h"

namespace sluice::launcher {

/// What the line says by itself. Any thread.
RowDraft draft(const InputLine& line, const RequestParser& parser,
               const RequestParser::IsAnswered& is_answered = {});

/// A row that is left out, of a line whose custom_id and form can be seen without reading it as
/// JSON. The line may be anything else: draft() would give it the same name. Nothing: use draft().
std::optional<RowDraft> name_alone(const InputLine& line);

/// The row, or what is wrong with it. In the input's order.
ParsedRow parse(const InputLine& line, RequestParser& parser);

}  // namespace sluice::launcher
