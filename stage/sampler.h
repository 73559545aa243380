// From logits to tokens, on the host. A result depends on the logits, the request's Sampling, its
// history and the position alone: never on what shares the batch.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "stage/request.h"

namespace sluice::stage {

/// A number in [0, 1) that is a pure function of seed and position (SplitMix64 over both).
double uniform_of(std::uint64_t seed, std::int64_t position);

class Sampler {
 public:
  /// Workspace for `vocabulary` logits; nothing is allocated afterwards. One thread.
  explicit Sampler(std::int32_t vocabulary);

  /// The next token. logits: [vocabulary] f32. `history`: prompt and answer so far (for the
  /// repetition penalty). `position`: of the token to be chosen, counted from the prompt's start.
  /// Order: repetition penalty, temperature, top-k, top-p, as Hugging Face's generate() does;
  /// greedy takes the lowest id among equals. Returns token -1 if a logit is NaN or none is finite.
  /// The result's `top` is the sampler's, until its next call.
  TokenResult sample(std::span<const float> logits, const Sampling& sampling,
                     std::span<const std::int32_t> history, std::int64_t position);

  /// The same with the chance given, uniform_of(sampling.seed, position): sampling.seed is not
  /// read.
  TokenResult sample_with(std::span<const float> logits, const Sampling& sampling,
                          std::span<const std::int32_t> history, double uniform);

  /// The log-probability of a given token, with the likeliest (sampling.logprobs of them).
  TokenResult score(std::span<const float> logits, std::int32_t token, std::int32_t logprobs);

 private:
  /// `top`: the greatest logit. `uniform` in [0, 1) picks: without top-k and top-p along the tokens
  /// by id, else along the kept ones from the likeliest down.
  std::int32_t choose(std::span<const float> logits, const Sampling& sampling, float top,
                      double uniform);
  void add_logprobs(std::span<const float> logits, std::int32_t logprobs, TokenResult& result);

  std::vector<float> penalised_;
  std::vector<Candidate> candidates_;  // with the logit in `logprob`
  std::array<Candidate, kMaxLogprobs> top_;
};

}  // namespace sluice::stage
