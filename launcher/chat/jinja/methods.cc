#include "launcher/chat/jinja/methods.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/operators.h"
#include "launcher/chat/jinja/text_methods.h"

namespace sluice::launcher::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;

bool has(const Names& names, std::string_view name) { return std::ranges::count(names, name) > 0; }

// What Python's types have that is not here. Source: dir() of each in Python 3.
const Names kTextUnsupported = {"encode",      "expandtabs", "format_map", "isidentifier",
                                "isprintable", "istitle",    "maketrans",  "translate"};
const Names kNumberUnsupported = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
    "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
    "numerator",        "real",      "to_bytes"};
const Names kListMutators = {"append", "clear",  "extend",  "insert",
                             "pop",    "remove", "reverse", "sort"};
const Names kDictMutators = {"clear", "pop", "popitem", "setdefault", "update"};

MethodKind sequence_kind(const Sequence& sequence, std::string_view name) {
  const bool is_list = sequence.form == Sequence::Form::list;
  if (is_list && has(kListMutators, name)) return MethodKind::unsafe;
  if (is_list && name == "copy") return MethodKind::known;
  if (is_list || sequence.form == Sequence::Form::tuple) {
    return has({"index", "count"}, name) ? MethodKind::known : MethodKind::none;
  }
  if (sequence.form == Sequence::Form::range) {
    return has({"index", "count", "start", "stop", "step"}, name) ? MethodKind::unsupported
                                                                  : MethodKind::none;
  }
  return has({"send", "throw", "close", "isdisjoint", "mapping"}, name) ? MethodKind::unsupported
                                                                        : MethodKind::none;
}

Value call_sequence(Run& run, const Value& value, const std::string& name,
                    const Arguments& arguments) {
  const Values& items = value.sequence().items;
  if (name == "copy") return run.list(items);
  const Bound bound(run, name, arguments, {"value"}, 1);
  std::int64_t count = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!equal(run, items[i], bound.at(0))) continue;
    if (name == "index") return Value(static_cast<std::int64_t>(i));
    ++count;
  }
  if (name == "index") run.fail(fmt::format("the value is not in {}", value.sequence().name));
  return Value(count);
}

Value call_mapping(Run& run, const Value& value, const std::string& name,
                   const Arguments& arguments) {
  const Mapping& mapping = value.mapping();
  if (name == "get") {
    const Bound bound(run, name, arguments, {"key", "default"}, 1);
    if (!contains(run, value, bound.at(0))) return bound.value(1);
    return item(run, value, bound.at(0));
  }
  const Bound none(run, name, arguments, {});
  if (name == "copy") return run.mapping(mapping.members);
  Values parts;
  run.check_room(mapping.members.size() * sizeof(Value));
  for (const auto& [key, member] : mapping.members) {
    parts.push_back(name == "keys" ? key : name == "values" ? member : run.tuple({key, member}));
  }
  const char* type = name == "keys" ? "dict_keys" : name == "values" ? "dict_values" : "dict_items";
  return run.sequence(Sequence::Form::view, std::move(parts), type);
}

Value call_loop(Run& run, const Value& value, const std::string& name, Arguments arguments) {
  Loop& loop = value.loop();
  if (name == "cycle") {
    if (arguments.positional.empty()) run.fail("no items for cycling given");
    return arguments.positional[loop.index % arguments.positional.size()];
  }
  for (const Value& one : arguments.positional) {
    // It is kept in the loop, and must not lead back to it.
    const bool plain = one.is_none() || one.is_number() || one.is_text() || one.is_undefined();
    if (!plain) run.refuse("loop.changed() of anything but texts and numbers");
  }
  const bool same =
      loop.changed_before && std::ranges::equal(loop.changed, arguments.positional,
                                                [&](const Value& one, const Value& other) {
                                                  return equal(run, one, other);
                                                });
  loop.changed_before = true;
  loop.changed = std::move(arguments.positional);
  return Value(!same);
}

}  // namespace

MethodKind method_kind(const Value& value, std::string_view name) {
  if (name.starts_with("__") && name.ends_with("__") && name.size() > 4) {
    return value.is_mapping() && value.mapping().find(name) != nullptr ? MethodKind::none
                                                                       : MethodKind::unsafe;
  }
  switch (value.kind()) {
    case Kind::text:
      if (is_text_method(name)) return MethodKind::known;
      return has(kTextUnsupported, name) ? MethodKind::unsupported : MethodKind::none;
    case Kind::boolean:
    case Kind::integer:
    case Kind::real:
      return has(kNumberUnsupported, name) ? MethodKind::unsupported : MethodKind::none;
    case Kind::sequence:
      return sequence_kind(value.sequence(), name);
    case Kind::mapping:
      if (has(kDictMutators, name)) return MethodKind::unsafe;
      if (name == "fromkeys") return MethodKind::unsupported;
      return has({"get", "items", "keys", "values", "copy"}, name) ? MethodKind::known
                                                                   : MethodKind::none;
    case Kind::loop:
      return has({"cycle", "changed"}, name) ? MethodKind::known : MethodKind::none;
    case Kind::function:
      return has({"name", "arguments", "catch_kwargs", "catch_varargs", "caller"}, name)
                 ? MethodKind::unsupported
                 : MethodKind::none;
    default:
      return MethodKind::none;
  }
}

Value call_method(Run& run, const Value& value, const std::string& name, Arguments arguments) {
  switch (value.kind()) {
    case Kind::text:
      return call_text_method(run, value, name, arguments);
    case Kind::sequence:
      return call_sequence(run, value, name, arguments);
    case Kind::mapping:
      return call_mapping(run, value, name, arguments);
    default:
      return call_loop(run, value, name, std::move(arguments));
  }
}

Bound::Bound(Run& run, std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, std::size_t least)
    : run_(run), function_(function), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names.size()) {
    run.fail(fmt::format("{}() takes at most {} arguments ({} given)", function, names.size(),
                         arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::ranges::find(names, name);
    if (found == names.end()) {
      run.fail(fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
    }
    const Value*& place = values_[static_cast<std::size_t>(found - names.begin())];
    if (place != nullptr) {
      run.fail(fmt::format("{}() got multiple values for argument '{}'", function, name));
    }
    place = &value;
  }
  for (std::size_t i = 0; i < least; ++i) {
    if (values_[i] != nullptr) continue;
    run.fail(fmt::format("{}() missing required argument '{}'", function, names.begin()[i]));
  }
}

std::int64_t Bound::integer(std::size_t place, std::int64_t otherwise) const {
  if (!has(place) || at(place).is_none()) return otherwise;
  check_defined(run_, at(place));
  if (!at(place).is_integral()) {
    run_.fail(fmt::format("{}(): '{}' object cannot be interpreted as an integer", function_,
                          type_name(at(place))));
  }
  return at(place).integer();
}

const std::string& Bound::text(std::size_t place) const {
  check_defined(run_, at(place));
  if (!at(place).is_text()) {
    run_.fail(fmt::format("{}(): argument {} must be str, not {}", function_, place + 1,
                          type_name(at(place))));
  }
  return at(place).bytes();
}

const std::string* Bound::text_or_null(std::size_t place) const {
  return !has(place) || at(place).is_none() ? nullptr : &text(place);
}

bool Bound::truth(std::size_t place, bool otherwise) const {
  return has(place) ? jinja::truth(at(place)) : otherwise;
}

}  // namespace sluice::launcher::jinja
