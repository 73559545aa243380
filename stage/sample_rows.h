// What a row of logits is wanted for, in the words of kernels::Ops::sample, and its answer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "stage/pass.h"
#include "stage/request.h"

namespace sluice::stage {

/// A row of logits and what it is wanted for.
struct LogitRow {
  std::int32_t row = 0;            // in Pass::rows
  std::int32_t prompt_index = -1;  // of the prompt token to be scored; -1: sample
  std::int32_t token = -1;         // the prompt token
};

/// Tokens that went through, by slot: what a repetition penalty looks back at.
class Histories {
 public:
  /// Over `memory` [slots, tokens_per_slot], which must outlive it.
  Histories(std::int32_t* memory, std::int32_t slots, std::int32_t tokens_per_slot);

  /// The tokens of a pass, which must follow on those before. A sequence that starts takes its
  /// slot over.
  void take(const Pass& pass);
  std::span<const std::int32_t> of(std::int32_t slot) const {
    return {begin_of(slot), static_cast<std::size_t>(counts_[static_cast<std::size_t>(slot)])};
  }

 private:
  std::int32_t* begin_of(std::int32_t slot) const {
    return memory_ + std::int64_t{slot} * tokens_per_slot_;
  }

  std::int32_t* memory_;
  std::int32_t tokens_per_slot_;
  std::vector<std::int32_t> counts_;  // by slot
};

/// Position of the token that a row samples, counted from its prompt's start.
inline std::int64_t sampled_position(const PassRow& row) { return row.position + row.new_tokens; }

/// Fills rows [wanted.size()], and `history` with the tokens of those that have a penalty, at most
/// a whole sequence each. Returns how many tokens these are. `histories` have taken the pass.
std::int32_t fill_sample_rows(const Pass& pass, std::span<const LogitRow> wanted,
                              const Histories& histories, kernels::SampleRow* rows,
                              std::int32_t* history);

/// `top` [kMaxLogprobs] takes the candidates, and the result points to them.
TokenResult result_of(const kernels::SampledRow& row, std::span<Candidate> top);

}  // namespace sluice::stage
