#include "stage/sampler.h"

#include <algorithm>
#include <cmath>

namespace sluice::stage {

namespace {

/// -1 if any logit is NaN or the greatest is not finite; else the lowest id of the greatest.
std::int32_t greatest(std::span<const float> logits) {
  // Blocks first: the plain maximum of a block vectorises, a search for its index does not.
  constexpr std::size_t kBlock = 1024;
  float best = -INFINITY;
  std::size_t best_block = 0;
  bool has_nan = false;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::size_t end = std::min(logits.size(), begin + kBlock);
    float block_best = -INFINITY;
    bool block_nan = false;
    for (std::size_t i = begin; i < end; ++i) {
      block_best = logits[i] > block_best ? logits[i] : block_best;
      block_nan |= !(logits[i] == logits[i]);
    }
    has_nan |= block_nan;
    if (block_best > best) {
      best = block_best;
      best_block = begin;
    }
  }
  if (has_nan || !std::isfinite(best)) return -1;
  std::size_t index = best_block;
  while (logits[index] != best) ++index;
  return static_cast<std::int32_t>(index);
}

/// The logarithm of the sum of all exponentials.
double log_sum_of(std::span<const float> logits) {
  float top = -INFINITY;
  for (const float logit : logits) top = std::max(top, logit);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - top));
  return std::log(sum) + static_cast<double>(top);
}

float logprob_of(float logit, double log_sum) {
  return static_cast<float>(static_cast<double>(logit) - log_sum);
}

bool likelier(const Candidate& a, const Candidate& b) {
  return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
}

/// The first of `count` whose weights sum up to more than `target`; where rounding leaves none, the
/// last that has a weight.
template <typename Weight>
std::size_t draw(std::size_t count, double target, const Weight& weight) {
  std::size_t last = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double own = weight(i);
    if (own <= 0.0) continue;
    last = i;
    target -= own;
    if (target < 0.0) break;
  }
  return last;
}

struct Nucleus {
  std::size_t count = 0;
  double weight = 0.0;
};

/// Top-p: sorts to the front the likeliest until they weigh `wanted`, the one that crosses it
/// included, at least one.
template <typename Weight>
Nucleus sort_nucleus(std::span<Candidate> candidates, double wanted, const Weight& weight) {
  // Usually few tokens of a vocabulary are kept. They are sorted in growing pieces; the rest is
  // never sorted.
  constexpr std::size_t kFirstPiece = 64;
  constexpr std::size_t kGrowth = 4;
  Nucleus kept;
  std::size_t sorted = 0;
  for (std::size_t piece = kFirstPiece; sorted < candidates.size(); piece *= kGrowth) {
    const std::span<Candidate> rest = candidates.subspan(sorted);
    const auto end = rest.begin() + static_cast<std::ptrdiff_t>(std::min(piece, rest.size()));
    if (end != rest.end()) std::nth_element(rest.begin(), end, rest.end(), likelier);
    std::sort(rest.begin(), end, likelier);
    sorted += std::min(piece, rest.size());
    while (kept.count < sorted) {
      kept.weight += weight(candidates[kept.count++].logprob);
      if (kept.weight >= wanted) return kept;
    }
  }
  return kept;
}

std::uint64_t split_mix(std::uint64_t state) {
  state += 0x9e3779b97f4a7c15ULL;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

/// Leaves the tokens whose bit is set. Many words of a mask are all ones or all zeros.
void rule_out(std::span<const std::uint32_t> mask, std::span<float> scores) {
  constexpr std::size_t kBits = 32;
  for (std::size_t first = 0; first < scores.size(); first += kBits) {
    const std::uint32_t word = mask[first / kBits];
    if (word == ~std::uint32_t{0}) continue;
    const std::size_t count = std::min(kBits, scores.size() - first);
    for (std::size_t i = 0; i < count; ++i) {
      scores[first + i] = (word >> i & 1U) != 0 ? scores[first + i] : -INFINITY;
    }
  }
}

}  // namespace

double uniform_of(std::uint64_t seed, std::int64_t position) {
  const std::uint64_t mixed = split_mix(split_mix(seed) ^ static_cast<std::uint64_t>(position));
  return static_cast<double>(mixed >> 11) * 0x1.0p-53;
}

Sampler::Sampler(std::int32_t vocabulary, std::int32_t sequence_tokens, std::int32_t rule_words)
    : edits_(vocabulary) {
  edit_room_.resize(
      static_cast<std::size_t>(TokenEdits::most(vocabulary, sequence_tokens, rule_words)));
  edited_.resize(static_cast<std::size_t>(vocabulary));
  candidates_.reserve(static_cast<std::size_t>(vocabulary));
}

TokenResult Sampler::sample(std::span<const float> logits, const Sampling& sampling,
                            const SequenceSoFar& so_far, std::int64_t position) {
  LogitEdits edits;
  if (edits_logits(sampling, so_far)) edits = edits_.make(sampling, so_far, edit_room_);
  return sample_with(logits, sampling, edits, uniform_of(sampling.seed, position));
}

TokenResult Sampler::sample_with(std::span<const float> logits, const Sampling& sampling,
                                 const LogitEdits& edits, double uniform) {
  TokenResult result;
  result.token = greatest(logits);
  if (result.token < 0) return result;
  std::span<const float> scores = logits;
  if (!edits.empty() || sampling.of_beam) {
    scores = edited(logits, sampling, edits);
    result.token = greatest(scores);
    if (result.token < 0) {
      result.token = kernels::kAllRuledOut;
      return result;
    }
  }
  if (sampling.of_beam) {
    if (sampling.logprobs >= 0) add_logprobs(scores, 0.0, sampling.logprobs, result);
    return result;
  }
  if (sampling.temperature > 0.0F) {
    const float top = scores[static_cast<std::size_t>(result.token)];
    result.token = choose(scores, sampling, top, uniform);
  }
  if (sampling.logprobs >= 0) add_logprobs(logits, log_sum_of(logits), sampling.logprobs, result);
  return result;
}

std::span<const float> Sampler::edited(std::span<const float> logits, const Sampling& sampling,
                                       const LogitEdits& edits) {
  const std::span<float> scores = std::span(edited_).first(logits.size());
  std::ranges::copy(logits, scores.begin());
  if (sampling.of_beam) {
    const double log_sum = log_sum_of(logits);
    for (float& score : scores) score = logprob_of(score, log_sum);
  }
  const auto of = [&](const kernels::TokenEdit& edit) -> float& {
    return scores[static_cast<std::size_t>(edit.token)];
  };
  for (const kernels::TokenEdit& edit : edits.biases) of(edit) += edit.value;
  for (const kernels::TokenEdit& edit : edits.repeated) {
    float& score = of(edit);
    score =
        score > 0.0F ? score / sampling.repetition_penalty : score * sampling.repetition_penalty;
    score -= edit.value;
  }
  for (const kernels::TokenEdit& edit : edits.others) of(edit) -= edit.value;
  if (!edits.mask.empty()) rule_out(edits.mask, scores);
  return scores;
}

TokenResult Sampler::score(std::span<const float> logits, std::int32_t token,
                           std::int32_t logprobs) {
  TokenResult result;
  if (greatest(logits) < 0) return result;
  result.token = token;
  add_logprobs(logits, log_sum_of(logits), std::max(logprobs, 0), result);
  return result;
}

std::int32_t Sampler::choose(std::span<const float> logits, const Sampling& sampling, float top,
                             double uniform) {
  // The difference to the greatest comes first and in double: whatever the temperature, the
  // greatest weighs 1 and no weight is NaN.
  const auto weight = [top = static_cast<double>(top),
                       temperature = static_cast<double>(sampling.temperature)](float logit) {
    return std::exp((static_cast<double>(logit) - top) / temperature);
  };
  const bool all = sampling.top_k <= 0 || static_cast<std::size_t>(sampling.top_k) >= logits.size();
  if (all && sampling.top_p >= 1.0F && sampling.min_p <= 0.0F) {
    double total = 0.0;
    for (const float logit : logits) total += weight(logit);
    return static_cast<std::int32_t>(draw(
        logits.size(), uniform * total, [&](std::size_t token) { return weight(logits[token]); }));
  }
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    candidates_.push_back({static_cast<std::int32_t>(i), logits[i]});
  }
  const auto is_light = [&](const Candidate& candidate) {
    return weight(candidate.logprob) < static_cast<double>(sampling.min_p);
  };
  // likelier() is a total order, so what is kept, and in which order, depends on the logits alone.
  if (!all) {
    std::nth_element(candidates_.begin(), candidates_.begin() + sampling.top_k - 1,
                     candidates_.end(), likelier);
    candidates_.resize(static_cast<std::size_t>(sampling.top_k));
    std::sort(candidates_.begin(), candidates_.end(), likelier);
  }
  double wanted = INFINITY;
  if (sampling.top_p >= 1.0F) {
    if (sampling.min_p > 0.0F) std::erase_if(candidates_, is_light);
  } else {
    double total = 0.0;
    for (const Candidate& candidate : candidates_) total += weight(candidate.logprob);
    wanted = static_cast<double>(sampling.top_p) * total;
  }
  Nucleus kept = sort_nucleus(candidates_, wanted, weight);
  for (; sampling.min_p > 0.0F && is_light(candidates_[kept.count - 1]); --kept.count) {
    kept.weight -= weight(candidates_[kept.count - 1].logprob);
  }
  const std::size_t chosen = draw(kept.count, uniform * kept.weight,
                                  [&](std::size_t i) { return weight(candidates_[i].logprob); });
  return candidates_[chosen].token;
}

void Sampler::add_logprobs(std::span<const float> logits, double log_sum, std::int32_t logprobs,
                           TokenResult& result) {
  result.logprob = logprob_of(logits[static_cast<std::size_t>(result.token)], log_sum);
  const auto wanted = std::min<std::size_t>(
      static_cast<std::size_t>(std::min(logprobs, kMaxLogprobs)), logits.size());
  if (wanted == 0) return;
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    candidates_.push_back({static_cast<std::int32_t>(i), logits[i]});
  }
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(wanted),
                    candidates_.end(), likelier);
  for (std::size_t i = 0; i < wanted; ++i) {
    top_[i] = {candidates_[i].token, logprob_of(candidates_[i].logprob, log_sum)};
  }
  result.top = std::span(top_).first(wanted);
}

}  // namespace sluice::stage
