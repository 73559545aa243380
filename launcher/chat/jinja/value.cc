#include "launcher/chat/jinja/value.h"

#include <algorithm>

namespace sluice::launcher::jinja {

const Value* Mapping::find(std::string_view key) const {
  const auto found = std::ranges::find_if(members, [&](const Member& member) {
    return member.first.is_text() && member.first.bytes() == key;
  });
  return found == members.end() ? nullptr : &found->second;
}

const Value* Names::find(std::string_view key) const {
  const auto found =
      std::ranges::find_if(members, [&](const auto& member) { return member.first == key; });
  return found == members.end() ? nullptr : &found->second;
}

const char* type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return "NoneType";
    case Kind::undefined:
      return "Undefined";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::text:
      return "str";
    case Kind::sequence:
      return value.sequence().name;
    case Kind::mapping:
      return "dict";
    case Kind::names:
      return "Namespace";
    case Kind::function:
      return "function";
    case Kind::loop:
      return "LoopContext";
  }
  return "";
}

int depth_of(const Value& value) {
  switch (value.kind()) {
    case Kind::sequence:
      return value.sequence().depth;
    case Kind::mapping:
      return value.mapping().depth;
    case Kind::function:
      return value.function().depth;
    case Kind::loop:
      return value.loop().depth;
    default:
      return 0;
  }
}

}  // namespace sluice::launcher::jinja
