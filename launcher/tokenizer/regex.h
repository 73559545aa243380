// Regular expressions of Oniguruma, the engine and syntax of Hugging Face's tokenizers, and the
// character properties that it knows. The only file that sees Oniguruma.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/function_ref.h"

namespace sluice::launcher {

/// Immutable: any thread may use it.
class Regex {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  /// Throws InputError naming `where` (file and key) for a pattern that Oniguruma refuses.
  Regex(std::string pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  const std::string& pattern() const { return pattern_; }

  /// Calls `found` with each match, from left to right. An empty match right behind another match
  /// does not count. Steps of backtracking and the processor's time are bounded by a constant times
  /// the bytes of the text: throws InputError for a pattern that needs more. Pre: valid UTF-8.
  /// Source: the find_iter of Rust's onig library.
  void each(std::string_view text, FunctionRef<void(Match)> found) const;

 private:
  class Code;
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

/// The characters that have one of some Unicode properties, such as "L" or "Alphabetic".
class CharacterSet {
 public:
  explicit CharacterSet(std::initializer_list<const char*> properties);
  bool contains(char32_t character) const {
    return (bits_[character / 64] >> (character % 64) & 1U) != 0;
  }
  void remove(char32_t character) {
    bits_[character / 64] &= ~(std::uint64_t{1} << (character % 64));
  }
  void add(char32_t character) { bits_[character / 64] |= std::uint64_t{1} << (character % 64); }

  /// Calls `found` with each of them, in order.
  void each(FunctionRef<void(char32_t)> found) const;

 private:
  std::vector<std::uint64_t> bits_;  // one for each character, U+10FFFF included
};

const CharacterSet& letters();  // L
const CharacterSet& numbers();  // N
const CharacterSet& marks();    // M
const CharacterSet& white_space();
/// What Hugging Face's Punctuation and Digits take for such: older and newer Unicode than above.
const CharacterSet& punctuation();  // and all ASCII signs
const CharacterSet& digits();
/// Letters, marks, decimal digits, connectors and joiners, as \w is for Rust's regex library.
const CharacterSet& word_characters();

/// Whether the first character of `text` is a word character. Pre: valid UTF-8, not empty.
bool is_word_character(std::string_view text);

}  // namespace sluice::launcher
