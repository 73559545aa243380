// What byte-pair merging begins with: one token for each byte or character of a word.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/tokenizer/flat_map.h"

namespace sluice::launcher {

/// What stands for a byte or character that the vocabulary lacks.
struct UnknownSymbol {
  std::int32_t id = -1;  // -1: it is left out
  bool fuse = false;     // neighbouring ones become one
};

/// Immutable: any thread may use it.
class Symbols {
 public:
  virtual ~Symbols() = default;
  virtual void append(std::string_view word, std::vector<std::int32_t>& symbols) const = 0;
  /// Bytes of the first part of `text` that no merge joins to the rest. Pre: not empty.
  virtual std::size_t first_word_bytes(std::string_view text) const { return text.size(); }
};

class ByteSymbols final : public Symbols {
 public:
  /// tokens[b]: the token of the single byte b; -1: it has none.
  ByteSymbols(const std::array<std::int32_t, 256>& tokens, UnknownSymbol unknown)
      : tokens_(tokens), unknown_(unknown) {}
  void append(std::string_view word, std::vector<std::int32_t>& symbols) const override;

 private:
  std::array<std::int32_t, 256> tokens_;
  UnknownSymbol unknown_;
};

/// Source: github.com/huggingface/tokenizers, models/bpe/model.rs (merge_word).
class CharacterSymbols final : public Symbols {
 public:
  struct Options {
    UnknownSymbol unknown = {};
    /// byte_tokens[b]: the token <0xb>; -1: it has none. A character that the vocabulary lacks
    /// becomes its bytes if all of them have a token.
    std::array<std::int32_t, 256> byte_tokens = {};
    /// Neighbouring characters that some merge joins: where one of its tokens ends, and where the
    /// other begins. A text may be cut between two characters that are no such pair.
    std::vector<std::pair<char32_t, char32_t>> joined = {};
    bool cuts = false;
  };
  /// `tokens`: the characters that have a token.
  CharacterSymbols(const std::vector<std::pair<char32_t, std::int32_t>>& tokens, Options options);

  void append(std::string_view word, std::vector<std::int32_t>& symbols) const override;
  std::size_t first_word_bytes(std::string_view text) const override;

 private:
  std::int32_t token_of(char32_t character) const {
    return character < tokens_.size() ? tokens_[character] : -1;
  }
  bool append_bytes(std::string_view character, std::vector<std::int32_t>& symbols) const;
  bool may_cut(char32_t before, char32_t behind) const;

  static constexpr std::size_t kPlain = 128;  // ASCII

  std::vector<std::int32_t> tokens_;  // by character
  Options options_;
  FlatMap joined_;                                                // before << 32 | behind
  std::array<std::array<bool, kPlain>, kPlain> plain_cuts_ = {};  // may_cut()
};

}  // namespace sluice::launcher
