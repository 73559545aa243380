// What Python's operators do with two values. Each throws TemplateError where Python has a
// TypeError, and counts its steps.
#pragma once

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

enum class Operator : std::uint8_t {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in,
};

bool truth(const Value& value);

bool equal(Run& run, const Value& left, const Value& right);
/// left < right. `sign`: how the template wrote it, for the error.
bool less(Run& run, const Value& left, const Value& right, const char* sign = "<");
/// For any of the comparisons, in and not_in.
bool compare(Run& run, Operator what, const Value& left, const Value& right);
/// For any of the others.
Value compute(Run& run, Operator what, const Value& left, const Value& right);
Value negate(Run& run, const Value& value);

/// Throws where a dict cannot have it as a key.
void check_hashable(Run& run, const Value& key);
/// Throws the error that an undefined value is; does nothing for any other.
void check_defined(Run& run, const Value& value);

}  // namespace sluice::launcher::jinja
