// Source: Jinja's sandbox.py (getattr, getitem, modifies_known_mutable) and environment.py.
#include "launcher/chat/jinja/access.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/chat/jinja/characters.h"
#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/methods.h"
#include "launcher/chat/jinja/operators.h"

namespace sluice::launcher::jinja {
namespace {

bool is_indexed(const Value& value) {
  return value.is_sequence() && value.sequence().form != Sequence::Form::generator &&
         value.sequence().form != Sequence::Form::view;
}

/// As Jinja's messages call it.
std::string object_name(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return "None";
    case Kind::names:
      return "jinja2.utils.Namespace object";
    case Kind::loop:
      return "jinja2.runtime.LoopContext object";
    default:
      return fmt::format("{} object", type_name(value));
  }
}

Value no_attribute(Run& run, const Value& value, const std::string& name) {
  return run.undefined(fmt::format("'{}' has no attribute '{}'", object_name(value), name));
}

Value loop_attribute(Run& run, const Value& value, const std::string& name) {
  const Loop& loop = value.loop();
  const auto index = static_cast<std::int64_t>(loop.index);
  const auto size = static_cast<std::int64_t>(loop.items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(size - index);
  if (name == "revindex0") return Value(size - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == size);
  if (name == "length") return Value(size);
  if (name == "depth") return Value(std::int64_t{1});  // more only in recursive loops
  if (name == "depth0") return Value(std::int64_t{0});
  if (name == "previtem") {
    return index == 0 ? run.undefined("there is no previous item") : loop.items[loop.index - 1];
  }
  if (name == "nextitem") {
    return index + 1 == size ? run.undefined("there is no next item") : loop.items[loop.index + 1];
  }
  return no_attribute(run, value, name);
}

/// A method, bound to its object; or what there is instead.
Value method(Run& run, const Value& value, const std::string& name, bool& found) {
  const MethodKind kind = method_kind(value, name);
  found = kind != MethodKind::none;
  switch (kind) {
    case MethodKind::unsafe:
      return run.undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name,
                                       type_name(value)));
    case MethodKind::unsupported:
      run.refuse(fmt::format("the attribute '{}' of '{}'", name, type_name(value)));
    case MethodKind::known:
      return run.function(
          name,
          [value, name](Run& now, Arguments arguments) {
            return call_method(now, value, name, std::move(arguments));
          },
          value);
    case MethodKind::none:
      break;
  }
  return {};
}

const Value* find_member(Run& run, const Value& value, const Value& key) {
  const Mapping& mapping = value.mapping();
  run.step(mapping.members.size() / 4);
  if (key.is_text()) return mapping.find(key.bytes());
  const auto found = std::ranges::find_if(mapping.members, [&](const Mapping::Member& member) {
    return equal(run, member.first, key);
  });
  return found == mapping.members.end() ? nullptr : &found->second;
}

/// A place from the end where it is negative; -1: outside.
std::int64_t place_of(std::int64_t index, std::int64_t size) {
  const std::int64_t place = index < 0 ? index + size : index;
  return place < 0 || place >= size ? -1 : place;
}

/// slice.indices(size) of Python: the places, in order.
std::vector<std::size_t> places_of(Run& run, std::int64_t size, const Value& start,
                                   const Value& stop, const Value& step) {
  for (const Value* part : {&start, &stop, &step}) {
    check_defined(run, *part);
    if (!part->is_none() && !part->is_integral()) {
      run.fail("slice indices must be integers or None or have an __index__ method");
    }
  }
  const std::int64_t stride = step.is_none() ? 1 : step.integer();
  if (stride == 0) run.fail("slice step cannot be zero");
  const std::int64_t low = stride < 0 ? -1 : 0;
  const std::int64_t high = stride < 0 ? size - 1 : size;
  const auto bounded = [&](const Value& given, std::int64_t otherwise) {
    if (given.is_none()) return otherwise;
    const std::int64_t place = given.integer();
    return std::clamp(place < 0 ? std::max(place, -size - 1) + size : place, low, high);
  };
  const std::int64_t begin = bounded(start, stride < 0 ? high : low);
  const std::int64_t end = bounded(stop, stride < 0 ? low : high);
  std::vector<std::size_t> places;
  for (std::int64_t at = begin; stride < 0 ? at > end : at < end;) {
    places.push_back(static_cast<std::size_t>(at));
    if (__builtin_add_overflow(at, stride, &at)) break;
  }
  run.step(places.size() / 4);
  return places;
}

}  // namespace

std::int64_t length(Run& run, const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::text:
      return static_cast<std::int64_t>(value.text().characters);
    case Kind::mapping:
      return static_cast<std::int64_t>(value.mapping().members.size());
    case Kind::loop:
      return static_cast<std::int64_t>(value.loop().items.size());
    case Kind::sequence:
      if (value.sequence().form != Sequence::Form::generator) {
        return static_cast<std::int64_t>(value.sequence().items.size());
      }
      [[fallthrough]];
    default:
      run.fail(fmt::format("object of type '{}' has no len()", type_name(value)));
  }
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_text() || value.is_sequence() || value.is_mapping();
}

Values items_of(Run& run, const Value& value) {
  Values items;
  switch (value.kind()) {
    case Kind::undefined:
      return items;
    case Kind::text: {
      const std::string& bytes = value.bytes();
      run.check_room(value.text().characters * (sizeof(Value) + sizeof(Text)));
      for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t size = character_bytes(bytes, at);
        items.push_back(run.text(bytes.substr(at, size)));
        at += size;
      }
      return items;
    }
    case Kind::mapping:
      for (const auto& [key, member] : value.mapping().members) items.push_back(key);
      break;
    case Kind::sequence: {
      const Sequence& sequence = value.sequence();
      run.check_room(sequence.items.size() * sizeof(Value));
      if (sequence.form != Sequence::Form::generator) {
        items = sequence.items;
        break;
      }
      const auto first = sequence.items.begin() + static_cast<std::ptrdiff_t>(sequence.next);
      items.assign(first, sequence.items.end());
      sequence.next = sequence.items.size();
      break;
    }
    default:
      run.fail(fmt::format("'{}' object is not iterable", type_name(value)));
  }
  run.step(items.size() / 4);
  return items;
}

bool contains(Run& run, const Value& container, const Value& value) {
  if (container.is_text()) {
    if (!value.is_text()) {
      run.fail(
          fmt::format("'in <string>' requires string as left operand, not {}", type_name(value)));
    }
    run.scan(container.bytes().size());
    return find_bytes(container.bytes(), value.bytes()) != std::string_view::npos;
  }
  if (container.is_mapping()) {
    check_hashable(run, value);
    return find_member(run, container, value) != nullptr;
  }
  if (!is_iterable(container)) {
    run.fail(fmt::format("argument of type '{}' is not iterable", type_name(container)));
  }
  return std::ranges::any_of(items_of(run, container),
                             [&](const Value& one) { return equal(run, one, value); });
}

Value attribute(Run& run, const Value& value, const std::string& name) {
  check_defined(run, value);
  bool found = false;
  Value bound = method(run, value, name, found);
  if (found) return bound;
  if (value.is(Kind::loop)) return loop_attribute(run, value, name);
  const Value* member = nullptr;
  if (value.is_mapping()) {
    run.step(value.mapping().members.size() / 4);
    member = value.mapping().find(name);
  } else if (value.is(Kind::names)) {
    member = value.names().find(name);
  }
  return member != nullptr ? *member : no_attribute(run, value, name);
}

Value item(Run& run, const Value& value, const Value& key) {
  check_defined(run, value);
  if (value.is_mapping()) {
    if (const Value* member = find_member(run, value, key)) return *member;
  } else if (key.is_integral() && is_indexed(value)) {
    const Values& items = value.sequence().items;
    const auto place = place_of(key.integer(), static_cast<std::int64_t>(items.size()));
    if (place >= 0) return items[static_cast<std::size_t>(place)];
  } else if (key.is_integral() && value.is_text()) {
    const Text& text = value.text();
    const auto place = place_of(key.integer(), static_cast<std::int64_t>(text.characters));
    if (place >= 0) {
      if (!text.is_ascii()) run.scan(text.bytes.size());
      const std::size_t at = byte_of(text, static_cast<std::size_t>(place));
      return run.text(text.bytes.substr(at, character_bytes(text.bytes, at)));
    }
  }
  if (key.is_text()) {
    bool found = false;
    Value bound = method(run, value, key.bytes(), found);
    if (found) return bound;
    if (value.is(Kind::names) || value.is(Kind::loop)) return attribute(run, value, key.bytes());
    return no_attribute(run, value, key.bytes());
  }
  return run.undefined(fmt::format("{} has no element {}", object_name(value), repr(run, key)));
}

Value slice(Run& run, const Value& value, const Value& start, const Value& stop,
            const Value& step) {
  check_defined(run, value);
  if (value.is_text()) {
    const Text& text = value.text();
    const auto size = static_cast<std::int64_t>(text.characters);
    const std::vector<std::size_t> places = places_of(run, size, start, stop, step);
    run.scan(text.bytes.size());
    std::string out;
    if (places.empty()) return run.text("");
    if (step.is_none() || step.integer() == 1) {
      const std::size_t begin = byte_of(text, places.front());
      const std::size_t last = byte_of(text, places.back());
      out = text.bytes.substr(begin, last - begin + character_bytes(text.bytes, last));
    } else {
      const std::u32string characters = decode(text.bytes);
      for (const std::size_t place : places) append(out, characters[place]);
    }
    return run.text(std::move(out));
  }
  if (!is_indexed(value)) {
    return run.undefined(fmt::format("{} has no element slice", object_name(value)));
  }
  const Sequence& sequence = value.sequence();
  Values items;
  for (const std::size_t place :
       places_of(run, static_cast<std::int64_t>(sequence.items.size()), start, stop, step)) {
    items.push_back(sequence.items[place]);
  }
  return run.sequence(sequence.form, std::move(items), sequence.name);
}

}  // namespace sluice::launcher::jinja
