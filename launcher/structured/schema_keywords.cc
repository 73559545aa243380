#include "launcher/structured/schema_keywords.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "launcher/structured/grammar_problem.h"

namespace sluice::launcher {
namespace {

struct Keyword {
  std::string_view name;
  KeywordKind kind;
};
using enum KeywordKind;
constexpr Keyword kKeywords[] = {{"$schema", annotation},
                                 {"$id", annotation},
                                 {"$comment", annotation},
                                 {"$defs", annotation},
                                 {"definitions", annotation},
                                 {"title", annotation},
                                 {"description", annotation},
                                 {"default", annotation},
                                 {"examples", annotation},
                                 {"deprecated", annotation},
                                 {"readOnly", annotation},
                                 {"writeOnly", annotation},
                                 {"discriminator", annotation},
                                 {"type", any_type},
                                 {"enum", any_type},
                                 {"const", any_type},
                                 {"anyOf", any_type},
                                 {"oneOf", any_type},
                                 {"allOf", any_type},
                                 {"$ref", any_type},
                                 {"minLength", string},
                                 {"maxLength", string},
                                 {"pattern", string},
                                 {"format", string},
                                 {"minimum", number},
                                 {"maximum", number},
                                 {"exclusiveMinimum", number},
                                 {"exclusiveMaximum", number},
                                 {"items", array},
                                 {"prefixItems", array},
                                 {"minItems", array},
                                 {"maxItems", array},
                                 {"uniqueItems", array},
                                 {"properties", object},
                                 {"required", object},
                                 {"additionalProperties", object}};

[[noreturn]] void refuse_both(const std::string& keyword) {
  throw GrammarProblem(
      fmt::format("the keyword {} stands in two schemas that must both hold, which is not "
                  "supported here; write one schema",
                  keyword),
      keyword);
}

Json merged_types(const Json& first, const Json& second) {
  const std::uint32_t common = types_named(first) & types_named(second);
  Json names = Json::array();
  constexpr std::pair<std::uint32_t, const char*> kNames[] = {{kNull, "null"},
                                                              {kBoolean, "boolean"},
                                                              {kString, "string"},
                                                              {kArray, "array"},
                                                              {kObject, "object"}};
  for (const auto& [bit, name] : kNames) {
    if ((common & bit) != 0) names.push_back(name);
  }
  if ((common & kFraction) != 0) {
    names.push_back("number");
  } else if ((common & kInteger) != 0) {
    names.push_back("integer");
  }
  return names;
}

Json merged_lists(const Json& first, const Json& second) {
  Json all = first;
  for (const Json& one : second) {
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
  }
  return all;
}

Json common_values(const Json& first, const Json& second) {
  Json all = Json::array();
  for (const Json& one : first) {
    if (std::find(second.begin(), second.end(), one) != second.end()) all.push_back(one);
  }
  return all;
}

/// Of a schema that has properties, those of the other must not fall under its
/// additionalProperties.
void check_additional(const Json& first, const Json& second) {
  const Json* rule = first.find("additionalProperties");
  if (rule == nullptr || *rule == true) return;
  for (const auto& [name, schema] : second.member("properties").items()) {
    if (!first.member("properties").contains(name)) refuse_both("additionalProperties");
  }
}

Json merged_properties(const Json& first, const Json& second) {
  Json all = first;
  for (const auto& [name, schema] : second.items()) {
    const Json* known = all.find(name);
    if (known == nullptr) {
      all[name] = schema;
    } else if (*known != schema) {
      // Both must hold; the reader makes one of them when it comes there.
      all[name] = Json{{"allOf", Json::array({*known, schema})}};
    }
  }
  return all;
}

Json merged_values(const std::string& keyword, const Json& first, const Json& second) {
  if (first == second) return first;
  const auto both_numbers = [&] {
    if (!first.is_number() || !second.is_number()) refuse_both(keyword);
  };
  if (keyword.starts_with("min") || keyword == "exclusiveMinimum") {
    both_numbers();
    return first.number() < second.number() ? second : first;
  }
  if (keyword.starts_with("max") || keyword == "exclusiveMaximum") {
    both_numbers();
    return first.number() < second.number() ? first : second;
  }
  if (keyword == "type") return merged_types(first, second);
  if (keyword == "enum") return common_values(first, second);
  if (keyword == "required") return merged_lists(first, second);
  if (keyword == "properties") return merged_properties(first, second);
  refuse_both(keyword);
}

}  // namespace

KeywordKind kind_of(std::string_view keyword) {
  const auto found = std::ranges::find(kKeywords, keyword, &Keyword::name);
  return found == std::end(kKeywords) ? unknown : found->kind;
}

std::uint32_t type_of(const Json& value) {
  if (value.is_null()) return kNull;
  if (value.is_boolean()) return kBoolean;
  if (value.is_string()) return kString;
  if (value.is_array()) return kArray;
  if (value.is_object()) return kObject;
  return std::trunc(value.number()) == value.number() ? kInteger : kFraction;
}

std::uint32_t types_named(const Json& type) {
  if (type.is_array()) {
    std::uint32_t types = 0;
    for (const Json& one : type) types |= types_named(one);
    return types;
  }
  if (type == "null") return kNull;
  if (type == "boolean") return kBoolean;
  if (type == "integer") return kInteger;
  if (type == "number") return kInteger | kFraction;
  if (type == "string") return kString;
  if (type == "array") return kArray;
  if (type == "object") return kObject;
  throw GrammarProblem(
      fmt::format("type is {}; it must be one of null, boolean, integer, number, string, array and "
                  "object, or a list of these",
                  type.dump(-1, true).substr(0, 60)),
      "type");
}

Json without(const Json& schema, std::string_view keyword) {
  Json rest = Json::object();
  for (const auto& [name, value] : schema.items()) {
    if (name != keyword && kind_of(name) != annotation) rest[name] = value;
  }
  return rest;
}

bool asks_more_than(const Json& schema, std::string_view keyword) {
  return !without(schema, keyword).empty();
}

Json merged(const Json& first, const Json& second) {
  if (first == true) return second;
  if (second == true) return first;
  if (first == false || second == false) return false;
  check_additional(first, second);
  check_additional(second, first);
  Json both = without(first, "");
  for (const auto& [name, value] : second.items()) {
    if (kind_of(name) == annotation) continue;
    const Json* known = both.find(name);
    both[name] = known == nullptr ? value : merged_values(name, *known, value);
  }
  return both;
}

const Json& referred(const Json& root, const Json& reference) {
  const auto refuse = [&](const char* why) {
    throw GrammarProblem(fmt::format("$ref is {}, {}", reference.dump(-1, true).substr(0, 80), why),
                         "$ref");
  };
  if (!reference.is_string() || !reference.text().starts_with("#")) {
    refuse("which is not in the schema; it must be \"#\" or begin with \"#/\"");
  }
  std::string_view rest = std::string_view(reference.text()).substr(1);
  const Json* found = &root;
  while (!rest.empty()) {
    if (rest.front() != '/') refuse("which is no path; names of anchors are not supported");
    rest.remove_prefix(1);
    const std::string_view part = rest.substr(0, rest.find('/'));
    rest.remove_prefix(part.size());
    std::string name;
    for (std::size_t i = 0; i < part.size(); ++i) {
      const bool escaped = part[i] == '~' && i + 1 < part.size();
      if (escaped) ++i;
      name += !escaped ? part[i] : part[i] == '0' ? '~' : '/';
    }
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    if (found->is_array() && error == std::errc() && index < found->size()) {
      found = &(*found)[index];
    } else {
      found = found->find(name);
    }
    if (found == nullptr) refuse("which names no part of the schema");
  }
  return *found;
}

}  // namespace sluice::launcher
