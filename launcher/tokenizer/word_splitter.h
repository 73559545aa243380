// Cuts text into the words that byte pairs are merged within. The only file that knows PCRE2.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

namespace sluice::launcher {

/// GPT-2's pattern, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+,
/// with the letters and numbers of Unicode 15 and its White_Space as \s. Linear in the text.
class WordSplitter {
 public:
  struct Options {
    std::string removed;         // cut out of the text first; empty: nothing
    bool single_digits = false;  // then every number character is a piece of its own (Galactica)
    bool words = true;           // pieces are cut by the pattern; false: each is one word
  };
  WordSplitter();
  explicit WordSplitter(Options options);
  ~WordSplitter();
  WordSplitter(WordSplitter&&) noexcept;
  WordSplitter& operator=(WordSplitter&&) noexcept;

  class Pattern;
  using Receiver = std::function<void(std::string_view)>;

  /// Calls `piece` with each piece of `text` that is not empty, in order. Any thread. Pre: valid
  /// UTF-8.
  void cut(std::string_view text, const Receiver& piece) const;
  /// Calls `word` with each word of a piece, in order; together they are the piece. Likewise.
  void split(std::string_view piece, const Receiver& word) const;

 private:
  void cut_digits(std::string_view text, const Receiver& piece) const;

  std::string removed_;
  std::unique_ptr<Pattern> words_;   // null: a piece is a word
  std::unique_ptr<Pattern> digits_;  // null: digits are not cut out
};

/// Whether the first character of `text` is a word character: a letter, mark, decimal digit,
/// connector or joiner, as \w is for Rust's regex library. Pre: valid UTF-8, not empty.
bool is_word_character(std::string_view text);

}  // namespace sluice::launcher
