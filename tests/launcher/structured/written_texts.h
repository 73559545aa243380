// Texts of a program, written byte by byte by chance, as a model would write them token by token.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/matcher.h"

namespace sluice::launcher {

inline bool fits(grammar::Matcher& matcher, std::string_view text) {
  grammar::Matcher::State state = matcher.start();
  for (const char byte : text) state = matcher.next(state, static_cast<std::uint8_t>(byte));
  return matcher.may_end(state);
}

inline bool fits(const grammar::Program& program, std::string_view text) {
  grammar::Matcher matcher(program);
  return fits(matcher, text);
}

/// Ends where it must, with some luck where it may, and is empty where it came to no end.
inline std::string written(grammar::Matcher& matcher, std::mt19937& random) {
  constexpr std::size_t kLongest = 4000;
  std::string text;
  for (grammar::Matcher::State state = matcher.start(); text.size() < kLongest;) {
    if (matcher.must_end(state) || (matcher.may_end(state) && random() % 4 == 0)) return text;
    std::vector<std::uint8_t> bytes;
    for (int byte = 0; byte < 256; ++byte) {
      const auto one = static_cast<std::uint8_t>(byte);
      if (matcher.next(state, one) < 0) continue;
      // What ends or closes something comes often, or texts would hardly end.
      const bool closes = one == '"' || one == ']' || one == '}';
      bytes.insert(bytes.end(), closes ? 12 : 1, one);
    }
    if (bytes.empty()) return "";
    const std::uint8_t chosen = bytes[random() % bytes.size()];
    text += static_cast<char>(chosen);
    state = matcher.next(state, chosen);
  }
  return "";
}

}  // namespace sluice::launcher
