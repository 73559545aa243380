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

bool likelier(const Candidate& a, const Candidate& b) {
  return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
}

std::uint64_t split_mix(std::uint64_t state) {
  state += 0x9e3779b97f4a7c15ULL;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

}  // namespace

double uniform_of(std::uint64_t seed, std::int64_t position) {
  const std::uint64_t mixed = split_mix(split_mix(seed) ^ static_cast<std::uint64_t>(position));
  return static_cast<double>(mixed >> 11) * 0x1.0p-53;
}

Sampler::Sampler(std::int32_t vocabulary) {
  penalised_.resize(static_cast<std::size_t>(vocabulary));
  candidates_.reserve(static_cast<std::size_t>(vocabulary));
}

TokenResult Sampler::sample(std::span<const float> logits, const Sampling& sampling,
                            std::span<const std::int32_t> history, std::int64_t position) {
  TokenResult result;
  std::span<const float> scores = logits;
  if (sampling.repetition_penalty != 1.0F) {
    std::copy(logits.begin(), logits.end(), penalised_.begin());
    for (const std::int32_t token : history) {
      // From the original logit, so that a token seen twice is penalised once.
      const float logit = logits[static_cast<std::size_t>(token)];
      penalised_[static_cast<std::size_t>(token)] =
          logit > 0.0F ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    }
    scores = std::span<const float>(penalised_).first(logits.size());
  }
  result.token = greatest(scores);
  if (result.token < 0) return result;
  if (sampling.temperature > 0.0F) {
    result.token = choose(scores, sampling, uniform_of(sampling.seed, position));
  }
  if (sampling.logprobs >= 0) add_logprobs(logits, sampling.logprobs, result);
  return result;
}

TokenResult Sampler::score(std::span<const float> logits, std::int32_t token,
                           std::int32_t logprobs) {
  TokenResult result;
  if (greatest(logits) < 0) return result;
  result.token = token;
  add_logprobs(logits, std::max(logprobs, 0), result);
  return result;
}

std::int32_t Sampler::choose(std::span<const float> logits, const Sampling& sampling,
                             double uniform) {
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    candidates_.push_back({static_cast<std::int32_t>(i), logits[i] / sampling.temperature});
  }
  // likelier() is a total order, so what is kept, and in which order, depends on the logits alone.
  if (sampling.top_k > 0 && static_cast<std::size_t>(sampling.top_k) < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + sampling.top_k - 1,
                     candidates_.end(), likelier);
    candidates_.resize(static_cast<std::size_t>(sampling.top_k));
  }
  std::sort(candidates_.begin(), candidates_.end(), likelier);
  const double top = static_cast<double>(candidates_.front().logprob);
  double total = 0.0;
  for (const Candidate& candidate : candidates_) {
    total += std::exp(static_cast<double>(candidate.logprob) - top);
  }
  // Top-p keeps the likeliest until their probability reaches p, the one that crosses it included.
  double kept = total;
  std::size_t count = candidates_.size();
  if (sampling.top_p < 1.0F) {
    const double wanted = static_cast<double>(sampling.top_p) * total;
    kept = 0.0;
    for (count = 0; count < candidates_.size() && kept < wanted; ++count) {
      kept += std::exp(static_cast<double>(candidates_[count].logprob) - top);
    }
  }
  double left = uniform * kept;
  for (std::size_t i = 0; i < count; ++i) {
    left -= std::exp(static_cast<double>(candidates_[i].logprob) - top);
    if (left < 0.0) return candidates_[i].token;
  }
  return candidates_[count - 1].token;
}

void Sampler::add_logprobs(std::span<const float> logits, std::int32_t logprobs,
                           TokenResult& result) {
  float top = -INFINITY;
  for (const float logit : logits) top = std::max(top, logit);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - top));
  const double log_sum = std::log(sum) + static_cast<double>(top);
  const auto logprob_of = [&](std::int32_t token) {
    return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(token)]) -
                              log_sum);
  };
  result.logprob = logprob_of(result.token);
  const auto wanted = std::min<std::size_t>(
      static_cast<std::size_t>(std::min(logprobs, kMaxLogprobs)), logits.size());
  if (wanted == 0) return;
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    candidates_.push_back({static_cast<std::int32_t>(i), logits[i]});
  }
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(wanted),
                    candidates_.end(), likelier);
  result.top_count = static_cast<std::int32_t>(wanted);
  for (std::size_t i = 0; i < wanted; ++i) {
    result.top[i] = {candidates_[i].token, logprob_of(candidates_[i].token)};
  }
}

}  // namespace sluice::stage
