#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "launcher/structured/decimal_numbers.h"
#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/pattern.h"
#include "launcher/structured/schema_keywords.h"
#include "launcher/structured/schema_reader.h"

namespace sluice::launcher {
namespace {

using grammar::Builder;

/// Without 29 February, which most years do not have, and without leap seconds.
const std::string kDate =
    "[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]["
    "0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))";
const std::string kTime =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-"
    "5]["
    "0-9])";

std::string format_pattern(const Json& format) {
  if (format == "date") return kDate;
  if (format == "time") return kTime;
  if (format == "date-time") return kDate + "T" + kTime;
  if (format == "uuid") return "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
  if (format == "ipv4") {
    const std::string byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    return byte + "(?:\\." + byte + "){3}";
  }
  if (format == "email") {
    return "[A-Za-z0-9_+-]{1,32}(?:\\.[A-Za-z0-9_+-]{1,32}){0,3}@[A-Za-z0-9]{1,32}"
           "(?:[.-][A-Za-z0-9]{1,32}){0,3}\\.[A-Za-z]{2,12}";
  }
  throw GrammarProblem(fmt::format("format is {}; date, time, date-time, uuid, ipv4 and email are "
                                   "supported",
                                   format.dump(-1, true).substr(0, 60)),
                       "format");
}

void refuse_beside(const Json& schema, const char* keyword, const char* beside) {
  if (!schema.contains(keyword)) return;
  throw GrammarProblem(
      fmt::format("the keyword {} beside {} is not supported; leave one of them out", keyword,
                  beside),
      keyword);
}

/// A bound of numbers; `step` is added where it is exclusive.
template <typename Read>
std::optional<std::int64_t> bound(const Json& schema, const char* keyword, const char* exclusive,
                                  std::int64_t step, const Read& read) {
  std::optional<std::int64_t> found;
  const auto tighten = [&](std::int64_t value) {
    if (!found || (step > 0 ? value > *found : value < *found)) found = value;
  };
  if (const Json* value = schema.find(keyword)) tighten(read(keyword, *value, false));
  if (const Json* value = schema.find(exclusive)) tighten(read(exclusive, *value, true));
  return found;
}

[[noreturn]] void refuse_bound(const char* keyword, const Json& value, const std::string& wanted) {
  throw GrammarProblem(
      fmt::format("{} is {}; it must be {}", keyword, value.dump(-1, true).substr(0, 60), wanted),
      keyword);
}

}  // namespace

grammar::Node SchemaReader::string_value(const Json& schema) {
  const Json* pattern = schema.find("pattern");
  const Json* format = schema.find("format");
  if (pattern == nullptr && format == nullptr) {
    const std::int64_t most = count(schema, "maxLength", Builder::kUnbounded);
    const std::int64_t least = count(schema, "minLength", 0);
    if (most != Builder::kUnbounded && most < least) return builder_.never();
    return text_.string(least, most);
  }
  const char* said = pattern != nullptr ? "pattern" : "format";
  refuse_beside(schema, "minLength", said);
  refuse_beside(schema, "maxLength", said);
  if (pattern != nullptr) refuse_beside(schema, "format", said);
  if (pattern != nullptr && !pattern->is_string()) {
    throw GrammarProblem("pattern is no text", "pattern");
  }
  PatternUse use;
  use.search = pattern != nullptr;
  use.name = said;
  use.write = [this](const grammar::CharacterSet& set) { return text_.string_character(set); };
  try {
    return text_.quoted(pattern_node(pattern != nullptr ? pattern->text() : format_pattern(*format),
                                     builder_, use));
  } catch (const GrammarProblem& problem) {
    throw GrammarProblem(problem.what(), said);
  }
}

grammar::Node SchemaReader::integer_value(const Json& schema) {
  const auto read = [](const char* keyword, const Json& value, bool exclusive) {
    constexpr auto kMost = static_cast<double>(kMostInteger);
    if (!value.is_number() || !(std::abs(value.number()) <= kMost)) {
      refuse_bound(keyword, value, fmt::format("a number of at most {} digits", kIntegerDigits));
    }
    const bool is_low = std::string_view(keyword).ends_with("inimum");
    if (value.is_integer()) return value.integer() + (!exclusive ? 0 : is_low ? 1 : -1);
    const double number = value.number();
    const double inside = is_low ? std::ceil(number) : std::floor(number);
    const bool on_it = exclusive && inside == number;
    return static_cast<std::int64_t>(inside) + (!on_it ? 0 : is_low ? 1 : -1);
  };
  const std::int64_t low =
      bound(schema, "minimum", "exclusiveMinimum", 1, read).value_or(-kMostInteger);
  const std::int64_t high =
      bound(schema, "maximum", "exclusiveMaximum", -1, read).value_or(kMostInteger);
  if (low > high) return builder_.never();
  if (low == -kMostInteger && high == kMostInteger) return text_.any_integer();
  return integer_node(builder_, std::max(low, -kMostInteger), std::min(high, kMostInteger));
}

grammar::Node SchemaReader::number_value(const Json& schema) {
  const auto read = [](const char* keyword, const Json& value, bool exclusive) {
    const auto scaled = value.is_number() ? scaled_bound(value.number()) : std::nullopt;
    if (!scaled) {
      refuse_bound(keyword, value,
                   fmt::format("a number of at most {} digits before the point and {} behind it",
                               kNumberDigits, kBoundDigits));
    }
    const bool is_low = std::string_view(keyword).ends_with("inimum");
    return *scaled + (!exclusive ? 0 : is_low ? 1 : -1);
  };
  constexpr std::int64_t kMost = kMostNumber * kBoundScale;
  const auto low = bound(schema, "minimum", "exclusiveMinimum", 1, read);
  const auto high = bound(schema, "maximum", "exclusiveMaximum", -1, read);
  if (!low && !high) return text_.any_number();
  const std::int64_t from = std::max(low.value_or(-kMost), -kMost);
  const std::int64_t to = std::min(high.value_or(kMost), kMost);
  return from > to ? builder_.never() : bounded_number_node(builder_, from, to);
}

/// `content` is not empty.
grammar::Node SchemaReader::bracketed(const char* open, Node content, bool may_be_empty,
                                      const char* close) {
  const Node full = builder_.sequence({text_.space(), content, text_.space()});
  const Node inside = may_be_empty ? builder_.choice({full, text_.space()}) : full;
  return builder_.sequence({builder_.text(open), inside, builder_.text(close)});
}

const Json& SchemaReader::item_schema(const Json& schema, std::int64_t index,
                                      std::int64_t least) const {
  static const Json kAny = true;
  static const Json kNone = false;
  const Json& first = schema.member("prefixItems");
  if (index < static_cast<std::int64_t>(first.size())) {
    return first[static_cast<std::size_t>(index)];
  }
  if (const Json* items = schema.find("items")) return *items;
  // Behind prefixItems no more are written than the schema wants.
  return first.empty() || index < least ? kAny : kNone;
}

/// Items from `index` on, each behind a comma.
grammar::Node SchemaReader::array_rest(const Json& schema, std::int64_t index, std::int64_t least,
                                       std::int64_t most) {
  if (index == most) return builder_.nothing();
  const auto prefix = static_cast<std::int64_t>(schema.member("prefixItems").size());
  const Node item = builder_.sequence({text_.comma(), value(item_schema(schema, index, least))});
  if (index >= prefix && (prefix == 0 || schema.contains("items") || index < least)) {
    const bool open = prefix == 0 || schema.contains("items");
    const std::int64_t end = open ? most : least;
    return builder_.repeat(item, std::max<std::int64_t>(0, least - index),
                           end == Builder::kUnbounded ? end : end - index);
  }
  if (index >= prefix) return builder_.nothing();
  const Node one = builder_.sequence({item, array_rest(schema, index + 1, least, most)});
  return index < least ? one : builder_.optional(one);
}

grammar::Node SchemaReader::array_value(const Json& schema) {
  const Json& prefix = schema.member("prefixItems");
  if (schema.contains("prefixItems") && (!prefix.is_array() || prefix.empty())) {
    throw GrammarProblem("prefixItems is no list of schemas", "prefixItems");
  }
  if (schema.member("items").is_array()) {
    throw GrammarProblem("items is a list, as older drafts have it; call it prefixItems", "items");
  }
  const std::int64_t least = count(schema, "minItems", 0);
  const std::int64_t most = count(schema, "maxItems", Builder::kUnbounded);
  if (most != Builder::kUnbounded && most < least) return builder_.never();
  const bool may_be_empty = least == 0;
  if (most == 0) return bracketed("[", builder_.never(), may_be_empty, "]");
  const Node first = value(item_schema(schema, 0, least));
  return bracketed("[", builder_.sequence({first, array_rest(schema, 1, least, most)}),
                   may_be_empty, "]");
}

std::vector<SchemaReader::Member> SchemaReader::members_of(const Json& schema,
                                                           std::vector<std::string>& names) {
  const Json& properties = schema.member("properties");
  const Json& required = schema.member("required");
  const Json* more = schema.find("additionalProperties");
  if (schema.contains("properties") && !properties.is_object()) {
    throw GrammarProblem("properties is no object", "properties");
  }
  if (schema.contains("required") && !required.is_array()) {
    throw GrammarProblem("required is no list of names", "required");
  }
  std::vector<Member> members;
  const auto add = [&](const std::string& name, const Json& of, bool wanted) {
    names.push_back(name);
    members.push_back({builder_.sequence({text_.key(name), value(of)}), wanted});
  };
  for (const auto& [name, of] : properties.items()) {
    const bool wanted = std::find(required.begin(), required.end(), Json(name)) != required.end();
    add(name, of, wanted);
  }
  for (const Json& name : required) {
    if (!name.is_string()) throw GrammarProblem("required is no list of names", "required");
    if (properties.contains(name.text())) continue;
    add(name.text(), more == nullptr ? Json(true) : *more, true);
  }
  return members;
}

/// At least one member, in order, then any number of `more`, or none where it is -1.
grammar::Node SchemaReader::members_node(const std::vector<Member>& members, Node more) {
  const auto behind_comma = [&](Node member) { return builder_.sequence({text_.comma(), member}); };
  Node rest =
      more < 0 ? builder_.nothing() : builder_.repeat(behind_comma(more), 0, Builder::kUnbounded);
  // The texts that begin with a member not before the present one.
  Node begun = more < 0 ? builder_.never() : builder_.sequence({more, rest});
  const auto shared = [&](const char* name, Node body) {
    const grammar::Rule rule = builder_.declare(name);
    builder_.define(rule, body);
    return builder_.call(rule);
  };
  for (std::size_t i = members.size(); i-- > 0;) {
    const Node member = shared("a member", members[i].node);
    const Node from_here = builder_.sequence({member, rest});
    begun = members[i].required ? from_here : builder_.choice({from_here, begun});
    const Node next = behind_comma(member);
    rest = shared("members",
                  builder_.sequence({members[i].required ? next : builder_.optional(next), rest}));
  }
  return begun;
}

grammar::Node SchemaReader::object_value(const Json& schema) {
  const Json* additional = schema.find("additionalProperties");
  if (additional != nullptr && !additional->is_boolean() && !additional->is_object()) {
    throw GrammarProblem("additionalProperties is no schema", "additionalProperties");
  }
  const bool names_members = schema.contains("properties") || schema.contains("required");
  if (!names_members && additional == nullptr) return text_.any_object();
  std::vector<std::string> names;
  const std::vector<Member> members = members_of(schema, names);
  Node more = -1;
  if (additional != nullptr && *additional != false) {
    more = builder_.sequence({text_.other_key(names), value(*additional)});
  }
  const bool may_be_empty = std::ranges::none_of(members, &Member::required);
  return bracketed("{", members_node(members, more), may_be_empty, "}");
}

}  // namespace sluice::launcher
