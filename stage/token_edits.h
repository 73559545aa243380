// What a row's settings do to its logits, worked out on the host from what the sequence has so far:
// a short list of tokens with numbers, in the words of kernels::SampleRow. The host's sampler and
// the device's both do what the list says, so that they cannot differ in what a setting means.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "stage/request.h"
#include "stage/token_rules.h"

namespace sluice::stage {

/// What the sampler knows of a sequence.
struct SequenceSoFar {
  std::span<const std::int32_t> tokens;      // prompt and answer so far
  TokenRuleView rules = {};                  // of its request
  std::span<const std::uint32_t> mask = {};  // tokens that may follow, as kernels::SampleLists has
                                             // them; empty: all
};

/// Of one row. The lists are their owner's.
struct LogitEdits {
  std::span<const kernels::TokenEdit> biases;
  std::span<const kernels::TokenEdit> repeated;
  std::span<const kernels::TokenEdit> others;
  std::span<const std::uint32_t> mask;

  bool empty() const {
    return biases.empty() && repeated.empty() && others.empty() && mask.empty();
  }
};

/// Whether a row may have edits.
bool edits_logits(const Sampling& sampling, const SequenceSoFar& so_far);

class TokenEdits {
 public:
  explicit TokenEdits(std::int32_t vocabulary);

  /// The most edits that a row can have: every token of a sequence and of rules once, and biases.
  static std::int64_t most(std::int32_t vocabulary, std::int32_t sequence_tokens,
                           std::int32_t rule_words);

  /// The edits of a row, in `room`, which holds most(). In Hugging Face's order (generate()'s list
  /// of processors): biases; repetition penalty over all tokens; OpenAI's frequency and presence
  /// penalties over the answer's; then what is ruled out: the end of an n-gram that was there
  /// before, the last token of a banned sequence whose others came just now, and before min_tokens
  /// the tokens that end the answer.
  LogitEdits make(const Sampling& sampling, const SequenceSoFar& so_far,
                  std::span<kernels::TokenEdit> room);

 private:
  kernels::TokenEdit& at(std::int32_t token);
  void rule_out(std::int32_t token);
  void penalise_answer(const Sampling& sampling, std::span<const std::int32_t> answer);
  void rule_out_ngrams(std::int32_t size, std::span<const std::int32_t> tokens);
  void rule_out_banned(const SequenceSoFar& so_far);

  std::vector<std::uint32_t> places_;    // by token: in edits_, where that has the token
  std::span<kernels::TokenEdit> edits_;  // of the row that is made, after its biases
  std::size_t used_ = 0;
};

}  // namespace sluice::stage
