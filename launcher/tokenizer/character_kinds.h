// What split patterns ask of a character, in one look.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {

/// Properties of a character, as bits. None: a control, or not assigned.
using Kind = std::uint8_t;
constexpr Kind kBegins = 1;   // Lu, Lt, Lm, Lo, M: may stand in a word's capital beginning
constexpr Kind kEnds = 2;     // Ll, Lm, Lo, M: and in the rest of it
constexpr Kind kLetter = 4;   // L
constexpr Kind kMark = 8;     // M
constexpr Kind kNumber = 16;  // N
constexpr Kind kSign = 32;    // P, S
constexpr Kind kBlank = 64;   // White_Space but for CR and LF
constexpr Kind kBreak = 128;  // CR, LF
constexpr Kind kSpace = kBlank | kBreak;

/// Of all characters, by Oniguruma's properties. Texts are valid UTF-8. Immutable: any thread may
/// use it.
class CharacterKinds {
 public:
  static const CharacterKinds& get();

  /// The kind of the character at `at`, whose size becomes `bytes`. Pre: `at` is in the text.
  Kind at(std::string_view text, std::size_t at, std::size_t& bytes) const {
    return kinds_[character_at(text, at, bytes)];
  }

  /// The end of the run of at most `most` characters from `at` on that have one of `kinds`.
  std::size_t run_of(std::string_view text, std::size_t at, Kind kinds,
                     std::size_t most = SIZE_MAX) const {
    std::size_t bytes = 0;
    while (most-- > 0 && at < text.size() && (this->at(text, at, bytes) & kinds) != 0) at += bytes;
    return at;
  }

  /// The end of the run of characters from `at` on that have none of `kinds`.
  std::size_t run_without(std::string_view text, std::size_t at, Kind kinds) const {
    std::size_t bytes = 0;
    while (at < text.size() && (this->at(text, at, bytes) & kinds) == 0) at += bytes;
    return at;
  }

  /// The end of \s+(?!\S)|\s+ : of the white space that `text` begins with. Where something follows
  /// more than one character of it, the last one is left out: it belongs to the next word.
  std::size_t blanks_end(std::string_view text) const;

  /// The end of \s*[\r\n]+ : of the last line break in the white space that `text` begins with; 0:
  /// there is none.
  std::size_t breaks_end(std::string_view text) const;

 private:
  CharacterKinds();

  std::vector<Kind> kinds_;  // by character
};

}  // namespace sluice::launcher
