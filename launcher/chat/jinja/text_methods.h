// Methods of str.
#pragma once

#include <string>
#include <string_view>

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

bool is_text_method(std::string_view name);
/// Pre: is_text_method(name), and `self` is a text.
Value call_text_method(Run& run, const Value& self, const std::string& name,
                       const Arguments& arguments);

/// text.replace(from, to, count); a negative `count`: all of them.
Value replace(Run& run, std::string_view text, std::string_view from, std::string_view to,
              std::int64_t count);
/// text.center(width, fill); ljust and rjust by `side`: where the text stands.
enum class Stand : unsigned char { left, center, right };
Value pad(Run& run, const Text& text, std::int64_t width, std::string_view fill, Stand stand);
/// separator.join(items), which must be texts.
Value join(Run& run, std::string_view separator, const Values& items);

}  // namespace sluice::launcher::jinja
