// Byte-pair merging: turns the bytes of a word into tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice::launcher {

class BytePairs {
 public:
  struct Options {
    std::int32_t unknown = -1;  // stands for a byte without a token; -1: such bytes are left out
    bool fuse_unknown = false;  // neighbouring bytes without a token become one `unknown`
    bool merge_in_rounds = true;
  };

  /// byte_tokens[b]: the token of the single byte b; -1: it has none.
  explicit BytePairs(const std::array<std::int32_t, 256>& byte_tokens)
      : BytePairs(byte_tokens, Options()) {}
  BytePairs(const std::array<std::int32_t, 256>& byte_tokens, Options options)
      : byte_tokens_(byte_tokens), options_(options) {}

  /// Adds the next merge in order of rank. False if the pair has one already (the first stays).
  bool add(std::int32_t left, std::int32_t right, std::int32_t product);

  /// Appends the tokens of `word`. The pair of the lowest rank is merged, the leftmost first, until
  /// no pair has a merge (Hugging Face's tokenizers, models/bpe/word.rs). With rounds, all pairs of
  /// that rank are merged before any new pair (GPT-2 encoder.py, bpe). Both give the same tokens
  /// for merges that were learnt in order. O(n log n) in the word's bytes. Any thread.
  void append_tokens(std::string_view word, std::vector<std::int32_t>& tokens) const;

 private:
  struct Merge {
    std::int32_t rank = 0;
    std::int32_t product = 0;
  };
  class Word;

  std::array<std::int32_t, 256> byte_tokens_;
  Options options_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // by left << 32 | right
};

}  // namespace sluice::launcher
