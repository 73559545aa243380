#include "launcher/structured/schema_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/json_schema.h"
#include "launcher/structured/schema_keywords.h"

namespace sluice::launcher {
namespace {

constexpr int kMostDepth = 100;

[[noreturn]] void refuse_depth() {
  throw GrammarProblem(
      "the schema is nested too deeply, or a $ref leads back to itself before any value", "$ref");
}

}  // namespace

class SchemaReader::Deeper {
 public:
  explicit Deeper(int& depth) : depth_(depth) {
    if (depth_ >= kMostDepth) refuse_depth();
    ++depth_;
  }
  ~Deeper() { --depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  int& depth_;
};

void SchemaReader::check_keywords(const Json& schema) const {
  for (const auto& [name, value] : schema.items()) {
    if (kind_of(name) == KeywordKind::unknown) {
      throw GrammarProblem(fmt::format("the keyword {} is not supported; leave it out",
                                       Json(name).dump(-1, true).substr(0, 60)),
                           name);
    }
    if (name == "uniqueItems" && value != false) {
      throw GrammarProblem("the keyword uniqueItems is not supported; leave it out", name);
    }
  }
}

/// A schema without $ref and allOf at its top.
Json SchemaReader::resolved(Json schema, int depth) const {
  if (depth > kMostDepth) refuse_depth();
  if (!schema.is_object()) return schema;
  check_keywords(schema);
  if (const Json* reference = schema.find("$ref")) {
    const Json target = referred(root_, *reference);
    return merged(resolved(target, depth + 1), resolved(without(schema, "$ref"), depth + 1));
  }
  if (const Json* all = schema.find("allOf")) {
    Json whole = resolved(without(schema, "allOf"), depth + 1);
    for (const Json& one : *all) whole = merged(whole, resolved(one, depth + 1));
    return whole;
  }
  return schema;
}

grammar::Node SchemaReader::rule_of(const Json& reference) {
  const Json& target = referred(root_, reference);
  const auto found = rules_.find(reference.text());
  if (found != rules_.end()) return builder_.call(found->second);
  const grammar::Rule rule = builder_.declare(reference.text());
  rules_.emplace(reference.text(), rule);
  builder_.define(rule, value(target));
  return builder_.call(rule);
}

grammar::Node SchemaReader::value(const Json& schema) {
  const Deeper deeper(depth_);
  if (schema == true) return text_.any_value();
  if (schema == false) return builder_.never();
  if (!schema.is_object()) {
    throw GrammarProblem(fmt::format("a schema is {}; it must be an object, true or false",
                                     schema.dump(-1, true).substr(0, 60)));
  }
  check_keywords(schema);
  if (const Json* reference = schema.find("$ref")) {
    if (!asks_more_than(schema, "$ref")) return rule_of(*reference);
    return value(resolved(schema));
  }
  if (schema.contains("allOf")) return value(resolved(schema));
  if (schema.contains("anyOf")) return any_of(schema, "anyOf");
  if (schema.contains("oneOf")) return any_of(schema, "oneOf");
  if (schema.contains("enum") || schema.contains("const")) return one_of_values(schema);
  return by_type(schema);
}

grammar::Node SchemaReader::any_of(const Json& schema, const char* keyword) {
  const Json& branches = schema.member(keyword);
  if (!branches.is_array() || branches.empty()) {
    throw GrammarProblem(fmt::format("{} is no list of schemas", keyword), keyword);
  }
  const bool exclusive = std::string_view(keyword) == "oneOf";
  for (std::size_t i = 0; exclusive && i < branches.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (are_disjoint(branches[k], branches[i])) continue;
      throw GrammarProblem(
          fmt::format("oneOf has branches {} and {}, which one value may fit both, so it is not "
                      "supported; use anyOf",
                      k + 1, i + 1),
          keyword);
    }
  }
  const Json rest = without(schema, keyword);
  std::vector<Node> alternatives;
  for (const Json& branch : branches) {
    alternatives.push_back(rest.empty() ? value(branch) : value(merged(rest, resolved(branch))));
  }
  return builder_.choice(std::move(alternatives));
}

grammar::Node SchemaReader::one_of_values(const Json& schema) {
  for (const auto& [name, asked] : schema.items()) {
    if (name == "enum" || name == "const" || name == "type") continue;
    if (kind_of(name) == KeywordKind::annotation) continue;
    throw GrammarProblem(
        fmt::format("the keyword {} beside enum or const is not supported; leave it out", name),
        name);
  }
  std::uint32_t types = kAllTypes;
  if (const Json* type = schema.find("type")) types = types_named(*type);
  const Json* list = schema.find("enum");
  const Json* single = schema.find("const");
  if (list != nullptr && !list->is_array()) throw GrammarProblem("enum is no list", "enum");
  Json values = list != nullptr ? *list : Json::array({*single});
  std::vector<Node> alternatives;
  for (const Json& one : values) {
    if ((type_of(one) & types) == 0) continue;
    if (single != nullptr && one != *single) continue;
    alternatives.push_back(text_.literal(one));
  }
  return builder_.choice(std::move(alternatives));
}

grammar::Node SchemaReader::by_type(const Json& schema) {
  std::uint32_t types = 0;
  if (const Json* type = schema.find("type")) {
    types = types_named(*type);
  } else {
    for (const auto& [name, value] : schema.items()) {
      const KeywordKind kind = kind_of(name);
      if (kind == KeywordKind::string) types |= kString;
      if (kind == KeywordKind::number) types |= kInteger | kFraction;
      if (kind == KeywordKind::array) types |= kArray;
      if (kind == KeywordKind::object) types |= kObject;
    }
    if (types == 0) return text_.any_value();
  }
  if ((types & kFraction) != 0) types &= ~std::uint32_t{kInteger};  // written by one rule
  std::vector<Node> alternatives;
  for (std::uint32_t type = 1; type <= kObject; type <<= 1) {
    if ((types & type) != 0) alternatives.push_back(of_type(schema, type));
  }
  return builder_.choice(std::move(alternatives));
}

grammar::Node SchemaReader::of_type(const Json& schema, std::uint32_t type) {
  switch (type) {
    case kNull:
      return builder_.text("null");
    case kBoolean:
      return builder_.choice({builder_.text("true"), builder_.text("false")});
    case kInteger:
      return integer_value(schema);
    case kFraction:
      return number_value(schema);
    case kString:
      return string_value(schema);
    case kArray:
      return array_value(schema);
    default:
      return object_value(schema);
  }
}

std::uint32_t SchemaReader::most_types(const Json& given, int depth) const {
  if (depth > kMostDepth) return kAllTypes;
  const Json schema = resolved(given);
  if (!schema.is_object()) return kAllTypes;
  std::uint32_t types = kAllTypes;
  if (const Json* type = schema.find("type")) types &= types_named(*type);
  if (const Json* single = schema.find("const")) types &= type_of(*single);
  for (const char* keyword : {"enum", "anyOf", "oneOf"}) {
    const Json* list = schema.find(keyword);
    if (list == nullptr || !list->is_array()) continue;
    std::uint32_t any = 0;
    const bool values = std::string_view(keyword) == "enum";
    for (const Json& one : *list) any |= values ? type_of(one) : most_types(one, depth + 1);
    types &= any;
  }
  return types;
}

namespace {

/// The values of enum or const; null: any.
Json listed_values(const Json& schema) {
  if (const Json* list = schema.find("enum")) return *list;
  if (const Json* single = schema.find("const")) return Json::array({*single});
  return nullptr;
}

bool have_none_in_common(const Json& first, const Json& second) {
  if (!first.is_array() || !second.is_array()) return false;
  return std::none_of(first.begin(), first.end(), [&](const Json& one) {
    return std::find(second.begin(), second.end(), one) != second.end();
  });
}

bool requires_member(const Json& schema, const std::string& name) {
  const Json& required = schema.member("required");
  return std::find(required.begin(), required.end(), Json(name)) != required.end();
}

}  // namespace

bool SchemaReader::are_disjoint(const Json& first, const Json& second) const {
  if ((most_types(first, 0) & most_types(second, 0)) == 0) return true;
  const Json one = resolved(first);
  const Json two = resolved(second);
  if (have_none_in_common(listed_values(one), listed_values(two))) return true;
  // Objects that a member tells apart, which both must have.
  if ((most_types(first, 0) & most_types(second, 0)) != kObject) return false;
  for (const auto& [name, schema] : one.member("properties").items()) {
    const Json* other = two.member("properties").find(name);
    if (other == nullptr || !requires_member(one, name) || !requires_member(two, name)) continue;
    if (have_none_in_common(listed_values(resolved(schema)), listed_values(resolved(*other)))) {
      return true;
    }
  }
  return false;
}

std::int64_t SchemaReader::count(const Json& schema, const char* keyword,
                                 std::int64_t otherwise) const {
  constexpr std::int64_t kMost = 100'000;
  const Json* value = schema.find(keyword);
  if (value == nullptr) return otherwise;
  if (!value->is_integer_in(0, kMost)) {
    throw GrammarProblem(fmt::format("{} is {}; it must be an integer from 0 to {}", keyword,
                                     value->dump(-1, true).substr(0, 60), kMost),
                         keyword);
  }
  return value->integer();
}

grammar::Rule json_schema_rule(const Json& schema, grammar::Builder& builder) {
  SchemaReader reader(schema, builder);
  const grammar::Rule root = builder.declare("the schema");
  builder.define(root, reader.value(schema));
  return root;
}

}  // namespace sluice::launcher
