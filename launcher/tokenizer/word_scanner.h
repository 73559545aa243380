// Words by the patterns that most families share, found without a regex engine: the same words,
// many times as fast.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

namespace sluice::launcher {

/// GPT-2's pattern, which ByteLevel has of its own.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Immutable: any thread may use it. Regex with the same pattern is its oracle in the tests.
class WordScanner {
 public:
  /// Null for a pattern that it does not know: GPT-2's, and Llama 3's with any number of digits in
  /// a word and with or without marks among the letters.
  static std::optional<WordScanner> of(std::string_view pattern);

  /// Bytes of the first word. Each character of a text is in a word. Pre: valid UTF-8, not empty.
  std::size_t word_bytes(std::string_view text) const;

 private:
  class Kinds;
  explicit WordScanner(std::shared_ptr<const Kinds> kinds);

  std::size_t gpt2_word(std::string_view text) const;
  std::size_t llama3_word(std::string_view text) const;

  std::shared_ptr<const Kinds> kinds_;
  bool is_gpt2_ = true;
  std::size_t most_digits_ = 1;  // Llama 3's: in one word
};

}  // namespace sluice::launcher
