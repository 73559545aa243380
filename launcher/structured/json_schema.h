// JSON schemas (2020-12) as grammars.
//
// Followed: type, enum, const, anyOf, oneOf (where its branches cannot overlap), allOf (where it
// can be written as one schema), $ref within the schema, also recursive; minLength, maxLength,
// pattern, format (date, time, date-time, uuid, ipv4, email); minimum, maximum, exclusiveMinimum
// and exclusiveMaximum; items, prefixItems, minItems, maxItems; properties, required,
// additionalProperties. Every other keyword that asks something is refused by its name.
//
// Of the values that a schema allows these are written: properties in the schema's order, and
// others only where additionalProperties is there and not false; a value without a type by the
// keywords it has; pattern and format without minLength and maxLength; integers of up to 18 digits.
#pragma once

#include "grammar/builder.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

/// The values of `schema` as JSON. Throws GrammarProblem.
grammar::Rule json_schema_rule(const Json& schema, grammar::Builder& builder);

}  // namespace sluice::launcher
