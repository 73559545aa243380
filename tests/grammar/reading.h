// Grammars as tests ask them: whether a whole text fits.
#pragma once

#include <cstdint>
#include <string_view>

#include "grammar/builder.h"
#include "grammar/matcher.h"

namespace sluice::grammar {

inline Matcher::State state_behind(Matcher& matcher, std::string_view text) {
  Matcher::State state = matcher.start();
  for (const char byte : text) state = matcher.next(state, static_cast<std::uint8_t>(byte));
  return state;
}

inline bool fits(Matcher& matcher, std::string_view text) {
  return matcher.may_end(state_behind(matcher, text));
}

/// The program of one expression.
inline Program program_of(Builder& builder, Node node) {
  const Rule root = builder.declare("root");
  builder.define(root, node);
  return builder.compile(root);
}

}  // namespace sluice::grammar
