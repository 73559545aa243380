// How a reader of strangers' bytes may refuse them: with an Error of the status that users are
// promised, and a sentence that can be shown. Any other exception ends the fuzzer.
#pragma once

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "kernels/device/error.h"

namespace sluice::fuzz {

inline void require(bool holds, std::string_view what) {
  if (holds) return;
  std::cerr << "fuzz: " << what << '\n';
  std::abort();
}

/// Not empty, of bounded length, and without control characters, which could steer a terminal.
inline void check_sentence(std::string_view sentence) {
  constexpr std::size_t kLongest = 4000;
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  bool shows = !sentence.empty() && sentence.size() <= kLongest;
  for (const char c : sentence) shows = shows && !is_control(c);
  require(shows, "this is no sentence for a user:");
}

/// True: `read` went through. False: it refused, as it may.
template <typename Read>
bool accepts(ExitStatus status, const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    require(error.status() == status, "an error has another status than is promised");
    check_sentence(error.what());
    return false;
  }
}

/// The same of configurations, whose problems stand on a line each.
template <typename Read>
bool accepts_lines(ExitStatus status, const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    require(error.status() == status, "an error has another status than is promised");
    std::string_view rest = error.what();
    for (;;) {
      const std::size_t end = rest.find('\n');
      check_sentence(rest.substr(0, end));
      if (end == std::string_view::npos) return false;
      rest.remove_prefix(end + 1);
    }
  }
}

}  // namespace sluice::fuzz
