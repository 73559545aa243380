// The name of a row, without the rest of it.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {

struct RowName {
  std::string custom_id;
  Naming naming = Naming::given;
};

/// As RequestParser::draft_json() and draft_text() name it.
RowName name_of(const InputLine& line);

}  // namespace sluice::launcher
