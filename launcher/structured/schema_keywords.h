// The keywords of JSON Schema (2020-12): which are followed, which say nothing about a value, and
// which two schemas that must both hold can be made one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "launcher/json/json.h"

namespace sluice::launcher {

enum class KeywordKind : std::uint8_t {
  annotation,  // title, description, default, ...: nothing about which values are valid
  any_type,    // type, enum, const, anyOf, oneOf, allOf, $ref
  string,
  number,
  array,
  object,
  unknown,
};
KeywordKind kind_of(std::string_view keyword);

/// Kinds of JSON values, as bits. A whole number is an integer, any other a fraction.
enum JsonTypes : std::uint32_t {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAllTypes = 127,
};
std::uint32_t type_of(const Json& value);
/// Of the keyword "type". Throws GrammarProblem.
std::uint32_t types_named(const Json& type);

/// A schema's object without some keywords, and without annotations.
Json without(const Json& schema, std::string_view keyword);
/// The schema has a keyword that asks something, other than `keyword`.
bool asks_more_than(const Json& schema, std::string_view keyword);

/// A schema that both hold in, where that can be written: bounds become the tighter ones,
/// properties and required ones are joined. Throws GrammarProblem naming the keyword that stands in
/// its way. Neither has "$ref" or "allOf".
Json merged(const Json& first, const Json& second);

/// The part of `root` that a "$ref" names: "#" or "#/a/b". Throws GrammarProblem.
const Json& referred(const Json& root, const Json& reference);

}  // namespace sluice::launcher
