// What a row of logits is wanted for, in the words of kernels::Ops::sample, and its answer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "stage/grammar_rows.h"
#include "stage/pass.h"
#include "stage/request.h"
#include "stage/token_edits.h"

namespace sluice::stage {

/// A row of logits and what it is wanted for.
struct LogitRow {
  std::int32_t row = 0;            // in Pass::rows
  std::int32_t prompt_index = -1;  // of the prompt token to be scored; -1: sample
  std::int32_t token = -1;  // the prompt token; of a sample the guess that it may equal, or -1
  std::int32_t ahead = 0;   // of a sample: the row's guesses that come behind it
  bool is_feature = false;  // its hidden state is wanted, of this prompt_index, no logits
};

/// What sampling looks back at, by slot: the tokens that went through, and the rules of requests.
class Histories {
 public:
  /// Over `memory` [slots, tokens_per_slot] and `rules` [slots, words_per_slot], which must outlive
  /// it.
  Histories(std::int32_t* memory, std::int32_t slots, std::int32_t tokens_per_slot,
            std::int32_t* rules = nullptr, std::int32_t words_per_slot = 0);

  /// The tokens of a pass, which must follow on those before, and the rules of sequences that
  /// start: these take their slots over. Where a row begins before the last one's end, the guesses
  /// in between were wrong.
  void take(const Pass& pass);
  /// Without the last `ahead` tokens.
  SequenceSoFar so_far(std::int32_t slot, std::int32_t ahead = 0) const;
  std::span<const std::int32_t> of(std::int32_t slot) const {
    return {begin_of(slot), static_cast<std::size_t>(counts_[static_cast<std::size_t>(slot)])};
  }

 private:
  void start(const PassRow& row, std::span<const std::int32_t> rules);
  std::int32_t* begin_of(std::int32_t slot) const {
    return memory_ + std::int64_t{slot} * tokens_per_slot_;
  }
  std::int32_t* rules_of(std::int32_t slot) const {
    return rules_ + std::int64_t{slot} * words_per_slot_;
  }

  std::int32_t* memory_;
  std::int32_t tokens_per_slot_;
  std::int32_t* rules_;
  std::int32_t words_per_slot_;
  std::vector<std::int32_t> counts_;      // by slot
  std::vector<std::int32_t> ends_;        // by slot: where its next tokens begin
  std::vector<std::int32_t> rule_words_;  // by slot
};

/// Position of a token that a row samples, counted from its prompt's start.
inline std::int64_t sampled_position(const PassRow& row, std::int32_t ahead) {
  return std::int64_t{row.position} + row.new_tokens - ahead;
}

/// Memory for what rows refer to.
struct SampleRoom {
  std::span<kernels::TokenEdit> edits;  // TokenEdits::most() for each row
  std::span<std::uint32_t> masks;  // a bit of each token for each row, where rows have grammars
};
/// How much of it is used.
struct SampleUse {
  std::int32_t edits = 0;
  std::int32_t mask_words = 0;
};

/// Fills rows [wanted.size()], and `room` with what they refer to. `histories` and `grammars` have
/// taken the pass.
SampleUse fill_sample_rows(const Pass& pass, std::span<const LogitRow> wanted,
                           const Histories& histories, GrammarRows& grammars, TokenEdits& edits,
                           kernels::SampleRow* rows, const SampleRoom& room);

/// `top` [kMaxLogprobs] takes the candidates, and the result points to them.
TokenResult result_of(const kernels::SampledRow& row, std::span<Candidate> top);

}  // namespace sluice::stage
