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
  /// `single_digits`: every number character is first cut out on its own (Galactica).
  explicit WordSplitter(bool single_digits = false);
  ~WordSplitter();
  WordSplitter(WordSplitter&&) noexcept;
  WordSplitter& operator=(WordSplitter&&) noexcept;

  /// Calls `word` with each piece of `text`, in order; together they are the text. Any thread.
  /// Pre: valid UTF-8.
  void split(std::string_view text, const std::function<void(std::string_view)>& word) const;

 private:
  class Pattern;
  std::unique_ptr<Pattern> words_;
  std::unique_ptr<Pattern> digits_;  // null: digits are not cut out
};

}  // namespace sluice::launcher
