// Regular expressions as grammars. The library that tokenizers use for theirs matches texts, and
// says nothing of what may follow a text that is half written.
//
// The dialect is ECMAScript's, without what no automaton can do:
//   literals  .  [a-z]  [^a-z]  \d \D \w \W \s \S  \t \n \r \f \v \0 \xHH \uHHHH \u{H...}
//   (...)  (?:...)  (?<name>...)  |  * + ? {n} {n,} {n,m}  and these with a lazy '?' behind
//   ^ at the begin and $ at the end of an alternative outside of all groups
// \d and \w are ASCII's, \s is Unicode's, "." is anything but an end of line.
// Back references, look-around, \b, \p{...} and flags are refused by name.
#pragma once

#include <functional>
#include <string_view>

#include "grammar/builder.h"

namespace sluice::launcher {

struct PatternUse {
  /// The pattern may match any part of the text, as a schema's "pattern" does; else it must match
  /// all of it.
  bool search = false;
  /// How one character of a set is written; empty: in UTF-8.
  std::function<grammar::Node(const grammar::CharacterSet&)> write = {};
  /// What messages call it.
  const char* name = "regex";
};

/// The texts that `pattern`, valid UTF-8, matches. Throws GrammarProblem.
grammar::Node pattern_node(std::string_view pattern, grammar::Builder& builder,
                           const PatternUse& use = {});

}  // namespace sluice::launcher
