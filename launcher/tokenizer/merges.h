// Byte-pair merges: pairs of tokens that become one, by rank.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/tokenizer/flat_map.h"

namespace sluice::launcher {

class Merges {
 public:
  /// Adds the next merge in order of rank; `same_rank`: of the rank of the one before. False if the
  /// pair has one already, which is then replaced: the later counts.
  bool add(std::int32_t left, std::int32_t right, std::int32_t product, bool same_rank = false);

  /// Merges neighbours among `tokens`: the pair of the lowest rank, the leftmost first, until no
  /// pair has a merge (Hugging Face's tokenizers, models/bpe/word.rs). `in_rounds`: all pairs of
  /// that rank are merged before any new pair (GPT-2 encoder.py, bpe). Both give the same tokens
  /// for merges that were learnt in order. O(n log n) in the tokens. Any thread.
  void apply(std::vector<std::int32_t>& tokens, bool in_rounds) const;

 private:
  class Chain;

  static constexpr std::int32_t kNone = -1;
  struct Merge {
    std::int32_t rank = kNone;
    std::int32_t product = kNone;
  };
  /// Rank kNone: the pair has no merge.
  Merge find(std::int32_t left, std::int32_t right) const;
  void apply_to_few(std::vector<std::int32_t>& tokens, bool in_rounds) const;

  FlatMap pairs_;  // left << 32 | right to rank << 32 | product
  std::int32_t last_rank_ = -1;
};

}  // namespace sluice::launcher
