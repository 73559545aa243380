// From logits to tokens, on the host. A result depends on the logits, the request's Sampling, its
// history and the position alone: never on what shares the batch.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "stage/request.h"
#include "stage/token_edits.h"

namespace sluice::stage {

/// A number in [0, 1) that is a pure function of seed and position (SplitMix64 over both).
double uniform_of(std::uint64_t seed, std::int64_t position);

class Sampler {
 public:
  /// Workspace for `vocabulary` logits and for sequences of so many tokens, whose rules have so
  /// many words; nothing is allocated afterwards. One thread.
  explicit Sampler(std::int32_t vocabulary, std::int32_t sequence_tokens = 0,
                   std::int32_t rule_words = 0);

  /// The next token. logits: [vocabulary] f32. `position`: of the token to be chosen, counted from
  /// the prompt's start. Order: edits (TokenEdits::make), mask, temperature, top-k, top-p, min-p,
  /// as Hugging Face's generate() does; greedy takes the lowest id among equals. The token is
  /// kernels::kNotFinite if a logit is NaN or none is finite, kAllRuledOut if edits and mask leave
  /// none. The result's `top` is the sampler's, until its next call.
  TokenResult sample(std::span<const float> logits, const Sampling& sampling,
                     const SequenceSoFar& so_far, std::int64_t position);

  /// The same with edits and chance given, uniform_of(sampling.seed, position): nothing that edits
  /// come from is read, but the repetition penalty, and sampling.seed neither.
  TokenResult sample_with(std::span<const float> logits, const Sampling& sampling,
                          const LogitEdits& edits, double uniform);

  /// The log-probability of a given token, with the likeliest (sampling.logprobs of them).
  TokenResult score(std::span<const float> logits, std::int32_t token, std::int32_t logprobs);

 private:
  /// `top`: the greatest logit. `uniform` in [0, 1) picks: without top-k and top-p along the tokens
  /// by id, else along the kept ones from the likeliest down.
  std::int32_t choose(std::span<const float> logits, const Sampling& sampling, float top,
                      double uniform);
  /// The logits as edited, or with Sampling::of_beam the log-probabilities.
  std::span<const float> edited(std::span<const float> logits, const Sampling& sampling,
                                const LogitEdits& edits);
  /// `log_sum`: of the exponentials of all logits.
  void add_logprobs(std::span<const float> logits, double log_sum, std::int32_t logprobs,
                    TokenResult& result);

  TokenEdits edits_;
  std::vector<kernels::TokenEdit> edit_room_;
  std::vector<float> edited_;
  std::vector<Candidate> candidates_;  // with the logit in `logprob`
  std::array<Candidate, kMaxLogprobs> top_;
};

}  // namespace sluice::stage
