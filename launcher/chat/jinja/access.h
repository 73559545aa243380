// What is inside a value: its items, its members, its attributes.
#pragma once

#include <string>

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

/// len(value). Throws TemplateError where Python has a TypeError, as all of these do.
std::int64_t length(Run& run, const Value& value);
bool is_iterable(const Value& value);
/// All that iterating over it gives; what is left of a generator, which is empty then.
Values items_of(Run& run, const Value& value);
/// value in container.
bool contains(Run& run, const Value& container, const Value& value);

/// value.name, as Jinja's sandbox looks it up: a method or attribute, then a key. Undefined where
/// there is none, and where the sandbox forbids it.
Value attribute(Run& run, const Value& value, const std::string& name);
/// value[key]: a key or an index, then a method or attribute.
Value item(Run& run, const Value& value, const Value& key);
/// value[start:stop:step]; None where one is left out.
Value slice(Run& run, const Value& value, const Value& start, const Value& stop, const Value& step);

}  // namespace sluice::launcher::jinja
