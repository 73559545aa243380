// Values as text: Python's str() and repr(), % and str.format, and JSON as json.dumps writes it.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

/// str(value): what `{{ value }}` prints. Throws TemplateError for values whose text in Python is
/// an address.
std::string str(Run& run, const Value& value);
std::string repr(Run& run, const Value& value);
std::string repr_of_text(std::string_view text);
/// repr() of a float.
std::string repr_of_real(double value);

/// format % right.
Value percent_format(Run& run, const std::string& format, const Value& right);
/// format.format(*positional, **named), without attributes and keys in its fields.
Value brace_format(Run& run, const std::string& format, const Arguments& arguments);

struct JsonStyle {
  bool ascii = false;
  bool sorted = false;
  bool has_indent = false;
  std::string indent;  // of one level
  std::string between_items = ", ";
  std::string behind_key = ": ";
};

/// json.dumps(value, ...). Throws TemplateError for what JSON cannot say.
Value to_json(Run& run, const Value& value, const JsonStyle& style);

}  // namespace sluice::launcher::jinja
