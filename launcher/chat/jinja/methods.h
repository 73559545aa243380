// Methods of str, list, tuple and dict.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

enum class MethodKind : std::uint8_t {
  none,         // Python has no such attribute
  known,        // call_method() does it
  unsupported,  // Python has it, and this interpreter does not
  unsafe,       // the sandbox forbids it: it would change the object, or is an inner part of Python
};

MethodKind method_kind(const Value& value, std::string_view name);

/// Pre: method_kind() says known.
Value call_method(Run& run, const Value& value, const std::string& name, Arguments arguments);

/// Arguments by the names of the parameters, in their order; null where one was not given. Throws
/// TemplateError for unknown names, too many arguments, and fewer than `least`.
class Bound {
 public:
  Bound(Run& run, std::string_view function, const Arguments& arguments,
        std::initializer_list<std::string_view> names, std::size_t least = 0);

  const Value* find(std::size_t place) const { return values_[place]; }
  bool has(std::size_t place) const { return values_[place] != nullptr; }
  const Value& at(std::size_t place) const { return *values_[place]; }  // pre: has(place)

  // Of an argument that must have a type. `otherwise`: where it is not given, or None.
  std::int64_t integer(std::size_t place, std::int64_t otherwise) const;
  const std::string& text(std::size_t place) const;
  /// Null where it is not given, or None.
  const std::string* text_or_null(std::size_t place) const;
  bool truth(std::size_t place, bool otherwise = false) const;
  Value value(std::size_t place) const { return has(place) ? at(place) : Value(); }

 private:
  Run& run_;
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace sluice::launcher::jinja
