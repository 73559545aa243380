// Jinja's filters and tests, and the functions that every template has.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

using Filter = Value (*)(Run&, const Value& input, const Arguments&);
using Test = bool (*)(Run&, const Value& input, const Arguments&);

/// Null pointer: this interpreter has none of that name. `is_known_filter`: Jinja has one.
Filter find_filter(std::string_view name);
bool is_known_filter(std::string_view name);
Test find_test(std::string_view name);

/// range, dict, namespace, joiner, raise_exception and strftime_now; Undefined for other names.
Value global(Run& run, std::string_view name, std::chrono::system_clock::time_point now);

/// Of filters that look at one attribute of each item ("a.b", 3): make_attrgetter of Jinja.
/// `otherwise`: stands for what is undefined; null: nothing does.
Value attribute_of(Run& run, const Value& value, const Value& path, const Value* otherwise);

// The tables that find_filter() looks into.
Filter find_text_filter(std::string_view name);
Filter find_list_filter(std::string_view name);

}  // namespace sluice::launcher::jinja
