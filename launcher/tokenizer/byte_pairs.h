// Byte-pair merging: which tokens a word's bytes come to.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice::launcher {

class BytePairs {
 public:
  /// byte_tokens[b]: the token of the single byte b.
  explicit BytePairs(const std::array<std::int32_t, 256>& byte_tokens)
      : byte_tokens_(byte_tokens) {}

  /// Adds the next merge in order of rank. False if the pair has one already (the first stays).
  bool add(std::int32_t left, std::int32_t right, std::int32_t product);

  /// Appends the tokens of `word`. Of all neighbouring pairs those of the lowest rank are merged,
  /// from left to right, until none is left (GPT-2 encoder.py, bpe). O(n log n) in the bytes of the
  /// word. Any thread.
  void append_tokens(std::string_view word, std::vector<std::int32_t>& tokens) const;

 private:
  struct Merge {
    std::int32_t rank = 0;
    std::int32_t product = 0;
  };
  class Word;

  std::array<std::int32_t, 256> byte_tokens_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // by left << 32 | right
};

}  // namespace sluice::launcher
