#include "stage/token_edits.h"

#include <algorithm>
#include <cmath>

namespace sluice::stage {

bool edits_logits(const Sampling& sampling, const SequenceSoFar& so_far) {
  return sampling.repetition_penalty != 1.0F || sampling.frequency_penalty != 0.0F ||
         sampling.presence_penalty != 0.0F || sampling.no_repeat_ngram > 0 ||
         !so_far.rules.empty() || !so_far.mask.empty();
}

TokenEdits::TokenEdits(std::int32_t vocabulary) {
  places_.resize(static_cast<std::size_t>(vocabulary));
}

std::int64_t TokenEdits::most(std::int32_t vocabulary, std::int32_t sequence_tokens,
                              std::int32_t rule_words) {
  return std::min<std::int64_t>(vocabulary, std::int64_t{sequence_tokens} + rule_words) +
         rule_words / 2;
}

LogitEdits TokenEdits::make(const Sampling& sampling, const SequenceSoFar& so_far,
                            std::span<kernels::TokenEdit> room) {
  const auto biases = static_cast<std::size_t>(so_far.rules.bias_count());
  for (std::size_t i = 0; i < biases; ++i) {
    const TokenBias one = so_far.rules.bias(static_cast<std::int32_t>(i));
    room[i] = {one.token, one.bias};
  }
  edits_ = room.subspan(biases);
  used_ = 0;
  if (sampling.repetition_penalty != 1.0F) {
    for (const std::int32_t token : so_far.tokens) at(token);
  }
  const std::size_t repeated = used_;
  const auto answer = so_far.tokens.subspan(
      std::min(so_far.tokens.size(), static_cast<std::size_t>(sampling.answer_begin)));
  if (sampling.frequency_penalty != 0.0F || sampling.presence_penalty != 0.0F) {
    penalise_answer(sampling, answer);
  }
  if (sampling.no_repeat_ngram > 0) rule_out_ngrams(sampling.no_repeat_ngram, so_far.tokens);
  rule_out_banned(so_far);
  if (answer.size() < static_cast<std::size_t>(sampling.min_tokens)) {
    for (const std::int32_t token : so_far.rules.ends()) rule_out(token);
  }
  return {room.first(biases), edits_.first(repeated), edits_.subspan(repeated, used_ - repeated),
          so_far.mask};
}

/// Its edit. A new one stands at the end, with value 0.
kernels::TokenEdit& TokenEdits::at(std::int32_t token) {
  std::uint32_t& place = places_[static_cast<std::size_t>(token)];
  if (place >= used_ || edits_[place].token != token) {
    place = static_cast<std::uint32_t>(used_);
    edits_[used_++] = {token, 0.0F};
  }
  return edits_[place];
}

void TokenEdits::rule_out(std::int32_t token) { at(token).value = INFINITY; }

void TokenEdits::penalise_answer(const Sampling& sampling, std::span<const std::int32_t> answer) {
  for (const std::int32_t token : answer) at(token).value += 1.0F;
  for (kernels::TokenEdit& edit : edits_.first(used_)) {
    if (edit.value == 0.0F) continue;
    edit.value = edit.value * sampling.frequency_penalty + sampling.presence_penalty;
  }
}

void TokenEdits::rule_out_ngrams(std::int32_t size, std::span<const std::int32_t> tokens) {
  const auto before = static_cast<std::size_t>(size) - 1;
  if (tokens.size() < before) return;
  const auto last = tokens.last(before);
  for (std::size_t end = before; end < tokens.size(); ++end) {
    if (std::ranges::equal(tokens.subspan(end - before, before), last)) rule_out(tokens[end]);
  }
}

void TokenEdits::rule_out_banned(const SequenceSoFar& so_far) {
  so_far.rules.for_each_banned([&](std::span<const std::int32_t> sequence) {
    const std::size_t before = sequence.size() - 1;
    if (before > so_far.tokens.size()) return;
    if (std::ranges::equal(so_far.tokens.last(before), sequence.first(before))) {
      rule_out(sequence.back());
    }
  });
}

}  // namespace sluice::stage
