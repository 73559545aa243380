// Cuts added tokens out of a text before the rest is cut into words.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "launcher/tokenizer/flat_map.h"
#include "launcher/tokenizer/function_ref.h"
#include "launcher/tokenizer/normalizer.h"
#include "launcher/tokenizer/pre_tokenizer.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {

/// Of several tokens that begin at one place the longest counts, and a text is read from left to
/// right. First come the tokens that are not `normalized`. What is between them is normalized, and
/// the other tokens, normalized as well, are looked for in each piece of that. Immutable: any
/// thread may use it.
/// Source: github.com/huggingface/tokenizers, tokenizer/added_vocabulary.rs (find_matches).
class AddedTokens {
 public:
  /// `normalizer` may be null, and must outlive it. Throws InputError for a token that it leaves
  /// nothing of, and for one of more than 1024 bytes.
  AddedTokens(const std::vector<AddedToken>& tokens, const Normalizer* normalizer);

  /// Calls `piece` with each normalized text between tokens that is not empty, and `token` with
  /// each token's id, in order. Pre: `text` is valid UTF-8.
  void cut(std::string_view text, PieceReceiver piece, FunctionRef<void(std::int32_t)> token) const;

 private:
  /// The tokens of one turn, as a tree of their bytes.
  class Finder {
   public:
    void add(const AddedToken& token);
    void cut(Piece text, PieceReceiver piece, FunctionRef<void(std::int32_t)> token) const;

   private:
    const AddedToken* match(std::string_view text, std::size_t& bytes) const;
    const AddedToken* find(std::string_view text, std::size_t& begin, std::size_t& bytes) const;

    std::vector<AddedToken> tokens_;
    FlatMap children_;                        // node << 8 | byte to node; the root is 0
    std::vector<std::int32_t> token_ = {-1};  // by node: index in tokens_
    std::array<bool, 256> leads_ = {};        // first bytes of tokens
  };

  void add(AddedToken token);

  Finder raw_;
  Finder normalized_;
  const Normalizer* normalizer_;
};

}  // namespace sluice::launcher
