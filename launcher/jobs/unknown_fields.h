// The names of a row's fields: which are ours, and what becomes of the others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/jobs/request_row.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

/// What becomes of a field that is not ours. Data sets have them: "expected", "label".
enum class UnknownFieldRule : std::uint8_t {
  ignore,  // one warning for each name
  keep,    // the answer's record gives them back; only a likely slip is warned of
  refuse,  // the row becomes an error record
};

struct UnknownField {
  std::string name;          // "label"; of a batch row's body "body.label"
  bool around_body = false;  // of a batch row, beside its body
};

/// Those of a plain row, or of a batch row and its body, in their order.
std::vector<UnknownField> unknown_fields(const Json& object, RowForm form);

/// Those of a batch row's body alone, by their own names.
std::vector<UnknownField> unknown_fields_of_body(const Json& body);

/// "; did you mean 'max_tokens'?" where the name is nearly one of ours, or else nothing.
std::string meant_by(const UnknownField& field);

/// Unknown fields with their values, as a JSON object; those of a batch row's body stand in its
/// member "body". Empty: there are none.
std::string kept_fields(const Json& object, RowForm form);

}  // namespace sluice::launcher
