// Words by the split patterns of published tokenizers, found without a regex engine: the same
// words, many times as fast.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

namespace sluice::launcher {

/// GPT-2's pattern, which ByteLevel has of its own.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Immutable: any thread may use it. Regex with the same pattern is its oracle in the tests.
class WordScanner {
 public:
  virtual ~WordScanner() = default;

  /// Null for an unknown pattern. Known are those of GPT-2; Llama 3 and Qwen, with one or up to
  /// three digits in a word, and with or without marks among the letters; o200k (Llama 4, GPT-OSS)
  /// and tekken (Mistral Nemo); DeepSeek V3, each of the three; BLOOM.
  static std::unique_ptr<const WordScanner> of(std::string_view pattern);

  /// Bytes of the first word: of a match, or of what comes before the next match. Each character of
  /// a text is in a word. Pre: valid UTF-8, not empty.
  virtual std::size_t word_bytes(std::string_view text) const = 0;
};

}  // namespace sluice::launcher
