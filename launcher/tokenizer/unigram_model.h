// Unigram: of all ways to cut a piece into tokens, the likeliest.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/flat_map.h"
#include "launcher/tokenizer/model.h"

namespace sluice::launcher {

struct Vocabulary;

/// Source: github.com/huggingface/tokenizers, models/unigram/model.rs (encode_optimized, tokenize).
class UnigramModel final : public Model {
 public:
  /// Of a vocabulary of kind unigram.
  explicit UnigramModel(const Vocabulary& vocabulary);

  /// Throws InputError for a character without a token, where there is no unknown token.
  void append_tokens(std::string_view piece, Workspace& workspace,
                     std::vector<std::int32_t>& ids) const override;

 private:
  /// The best way to come to a place in the piece.
  struct Arrival {
    double score = 0.0;
    std::int64_t begin = -1;  // of its last token; -1: no way leads here
    std::int32_t id = -1;
  };

  void add(std::string_view text, std::int32_t id);
  /// Node of the tokens that begin with a node's text and `byte`; 0: there are none.
  std::uint64_t child(std::uint64_t node, char byte) const;
  std::int32_t find(std::string_view text) const;
  std::vector<Arrival> best_ways(std::string_view piece) const;
  void leave(std::string_view piece, std::size_t begin, std::vector<Arrival>& ways) const;
  void append_unknown(std::string_view text, std::vector<std::int32_t>& ids) const;

  FlatMap children_;                        // node << 8 | byte to node; the root is 0
  std::vector<std::int32_t> token_ = {-1};  // by node; -1: it ends no token
  std::vector<double> scores_;              // by id
  std::int32_t unknown_;
  double unknown_score_;
  std::array<std::int32_t, 256> byte_tokens_ = {};  // -1: there is none
};

}  // namespace sluice::launcher
