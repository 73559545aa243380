// Rows to be sampled on a GPU, and what must come of them: stage::Sampler's answer, and where a
// token is drawn, the definition in double precision.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "stage/sampler.h"

namespace sluice::sample_test {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kMost = std::numeric_limits<float>::max();

/// What is asked of one row.
struct Asked {
  std::vector<float> logits;
  stage::Sampling sampling;
  std::vector<std::int32_t> history;
  stage::TokenRules rules = {};
  std::vector<std::uint32_t> mask = {};
  std::int64_t position = 0;
  std::int32_t token = -1;  // >= 0: it is scored
};

inline std::string text_of(const Asked& asked) {
  return "vocabulary " + std::to_string(asked.logits.size()) + ", temperature " +
         std::to_string(asked.sampling.temperature) + ", top_k " +
         std::to_string(asked.sampling.top_k) + ", top_p " + std::to_string(asked.sampling.top_p) +
         ", min_p " + std::to_string(asked.sampling.min_p) + ", penalty " +
         std::to_string(asked.sampling.repetition_penalty) + ", beam " +
         std::to_string(asked.sampling.of_beam) + ", seed " + std::to_string(asked.sampling.seed) +
         ", token " + std::to_string(asked.token);
}

/// As the device is told: rows, all of one vocabulary, with their edits and masks one after the
/// other.
struct SampleInput {
  std::vector<float> logits;
  std::vector<kernels::TokenEdit> edits = {{-7, NAN}};  // of nobody
  std::vector<std::uint32_t> masks = {0xAAAAAAAA};      // of nobody
  std::vector<kernels::SampleRow> rows;

  explicit SampleInput(const std::vector<Asked>& asked) {
    for (const Asked& one : asked) {
      logits.insert(logits.end(), one.logits.begin(), one.logits.end());
      kernels::SampleRow& row = rows.emplace_back();
      row.uniform = stage::uniform_of(one.sampling.seed, one.position);
      row.temperature = one.sampling.temperature;
      row.top_p = one.sampling.top_p;
      row.min_p = one.sampling.min_p;
      row.repetition_penalty = one.sampling.repetition_penalty;
      row.top_k = one.sampling.top_k;
      row.logprobs = one.sampling.logprobs;
      row.of_beam = one.sampling.of_beam;
      row.token = one.token;
      if (one.token < 0) add_edits(one, row);
    }
  }

 private:
  void add_edits(const Asked& one, kernels::SampleRow& row) {
    const auto vocabulary = static_cast<std::int32_t>(one.logits.size());
    stage::TokenEdits maker(vocabulary);
    std::vector<kernels::TokenEdit> room(static_cast<std::size_t>(stage::TokenEdits::most(
        vocabulary, static_cast<std::int32_t>(one.history.size()), stage::kMaxRuleWords)));
    const std::vector<std::int32_t> words = encode(one.rules);
    const stage::LogitEdits made =
        maker.make(one.sampling, {one.history, stage::TokenRuleView(words), one.mask}, room);
    row.first_edit = static_cast<std::int32_t>(edits.size());
    row.biases = static_cast<std::int32_t>(made.biases.size());
    row.repeated = static_cast<std::int32_t>(made.repeated.size());
    row.others = static_cast<std::int32_t>(made.others.size());
    for (const auto& list : {made.biases, made.repeated, made.others}) {
      edits.insert(edits.end(), list.begin(), list.end());
    }
    if (one.mask.empty()) return;
    row.first_mask_word = static_cast<std::int32_t>(masks.size());
    masks.insert(masks.end(), one.mask.begin(), one.mask.end());
  }
};

struct HostResult {
  std::int32_t token = -1;
  float logprob = 0.0F;
  std::vector<stage::Candidate> top;
};

inline HostResult on_the_host(const Asked& asked) {
  stage::Sampler sampler(static_cast<std::int32_t>(asked.logits.size()),
                         static_cast<std::int32_t>(asked.history.size()), stage::kMaxRuleWords);
  const std::vector<std::int32_t> words = encode(asked.rules);
  const stage::TokenResult result =
      asked.token >= 0 ? sampler.score(asked.logits, asked.token, asked.sampling.logprobs)
                       : sampler.sample(asked.logits, asked.sampling,
                                        {asked.history, stage::TokenRuleView(words), asked.mask},
                                        asked.position);
  return {result.token, result.logprob, {result.top.begin(), result.top.end()}};
}

/// The logits with every setting that edits them, by the settings' definitions.
inline std::vector<float> edited_by_definition(const Asked& asked) {
  const stage::Sampling& sampling = asked.sampling;
  std::vector<float> scores = asked.logits;
  const auto of = [&scores](std::int32_t token) -> float& {
    return scores[static_cast<std::size_t>(token)];
  };
  for (const stage::TokenBias& one : asked.rules.biases) of(one.token) += one.bias;
  for (const std::int32_t token : std::set(asked.history.begin(), asked.history.end())) {
    of(token) = of(token) > 0.0F ? of(token) / sampling.repetition_penalty
                                 : of(token) * sampling.repetition_penalty;
  }
  std::map<std::int32_t, float> counts;
  for (auto i = static_cast<std::size_t>(sampling.answer_begin); i < asked.history.size(); ++i) {
    counts[asked.history[i]] += 1.0F;
  }
  for (const auto& [token, count] : counts) {
    of(token) -= count * sampling.frequency_penalty + sampling.presence_penalty;
  }
  // A banned sequence, or an n-gram of the history, that the next token would complete.
  const auto completes = [&](const std::vector<std::int32_t>& sequence) {
    std::vector<std::int32_t> all = asked.history;
    all.push_back(sequence.back());
    return all.size() >= sequence.size() &&
           std::equal(sequence.rbegin(), sequence.rend(), all.rbegin());
  };
  for (const auto& banned : asked.rules.banned) {
    if (completes(banned)) of(banned.back()) = -kInfinity;
  }
  const auto size = sampling.no_repeat_ngram;
  for (auto at = asked.history.begin(); size > 0 && asked.history.end() - at >= size; ++at) {
    const std::vector<std::int32_t> ngram(at, at + size);
    if (completes(ngram)) of(ngram.back()) = -kInfinity;
  }
  const auto answer = static_cast<std::int32_t>(asked.history.size()) - sampling.answer_begin;
  for (const std::int32_t token : asked.rules.ends) {
    if (answer < sampling.min_tokens) of(token) = -kInfinity;
  }
  for (std::size_t i = 0; i < scores.size() && !asked.mask.empty(); ++i) {
    if ((asked.mask[i / 32] >> i % 32 & 1U) == 0) scores[i] = -kInfinity;
  }
  return scores;
}

/// How many of the tokens, the likeliest first, may be kept: every count that is right where sums
/// are exact to `exact` of all. `ends`: sums of weights up to each token, itself included.
inline std::set<std::size_t> kept_by_definition(const std::vector<double>& ends,
                                                const stage::Sampling& sampling, double exact) {
  const double slack = exact * ends.back();
  const auto weight = [&](std::size_t i) { return i == 0 ? ends[0] : ends[i] - ends[i - 1]; };
  const double wanted = static_cast<double>(sampling.top_p) * ends.back();
  const double least = static_cast<double>(sampling.min_p) * ends[0];
  std::set<std::size_t> counts;
  for (std::size_t count = 1; count <= ends.size(); ++count) {
    const double before = count == 1 ? -1.0 : ends[count - 2];
    const bool is_nucleus = sampling.top_p >= 1.0F
                                ? count == ends.size()
                                : before < wanted + slack && ends[count - 1] >= wanted - slack;
    if (!is_nucleus) continue;
    std::size_t surely = count;
    std::size_t perhaps = count;
    while (sampling.min_p > 0.0F && weight(surely - 1) < least * 1.0001 && surely > 1) --surely;
    while (sampling.min_p > 0.0F && weight(perhaps - 1) < least * 0.9999 && perhaps > 1) --perhaps;
    for (std::size_t kept = surely; kept <= perhaps; ++kept) counts.insert(kept);
  }
  return counts;
}

/// Every token that a draw may give where sums are exact to kExact of all that is kept: those whose
/// part of the sum is that near to the uniform, for each count that may be kept.
inline std::set<std::int32_t> drawn_by_definition(const Asked& asked) {
  constexpr double kExact = 1e-6;
  const stage::Sampling& sampling = asked.sampling;
  const std::vector<float> scores = edited_by_definition(asked);
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const bool cuts_count =
      sampling.top_k > 0 && static_cast<std::size_t>(sampling.top_k) < scores.size();
  if (cuts_count || sampling.top_p < 1.0F || sampling.min_p > 0.0F) {
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  }
  if (cuts_count) order.resize(static_cast<std::size_t>(sampling.top_k));
  const auto top = static_cast<double>(*std::max_element(scores.begin(), scores.end()));
  std::vector<double> ends;  // sums up to each token of the order, itself included
  for (const std::size_t token : order) {
    const double weight = std::exp((static_cast<double>(scores[token]) - top) /
                                   static_cast<double>(sampling.temperature));
    ends.push_back((ends.empty() ? 0.0 : ends.back()) + weight);
  }
  const double uniform = stage::uniform_of(sampling.seed, asked.position);
  std::set<std::int32_t> tokens;
  for (const std::size_t count : kept_by_definition(ends, sampling, kExact)) {
    const double kept = ends[count - 1];
    for (std::size_t i = 0; i < count; ++i) {
      const double begin = i == 0 ? 0.0 : ends[i - 1];
      if (ends[i] <= begin) continue;  // weighs nothing
      const double target = uniform * kept;
      if (target >= begin - kExact * kept && target < ends[i] + kExact * kept) {
        tokens.insert(static_cast<std::int32_t>(order[i]));
      }
    }
  }
  return tokens;
}

inline void expect_logprob(float got, float wanted, const Asked& asked) {
  if (std::isinf(wanted)) {
    EXPECT_EQ(got, wanted) << text_of(asked);
  } else {
    EXPECT_NEAR(got, wanted, 2e-6F + 1e-6F * std::abs(wanted)) << text_of(asked);
  }
}

/// Draws whose token was the only one possible.
struct Counts {
  int draws = 0;
  int certain = 0;
};

inline void expect_as_on_the_host(const Asked& asked, const kernels::SampledRow& got,
                                  Counts& counts) {
  const HostResult wanted = on_the_host(asked);
  const bool draws = asked.token < 0 && asked.sampling.temperature > 0.0F && wanted.token >= 0 &&
                     !asked.sampling.of_beam;
  if (draws) {
    const std::set<std::int32_t> possible = drawn_by_definition(asked);
    ASSERT_EQ(possible.count(wanted.token), 1U) << "the test: " << text_of(asked);
    EXPECT_EQ(possible.count(got.token), 1U) << got.token << ": " << text_of(asked);
    ++counts.draws;
    counts.certain += possible.size() == 1 ? 1 : 0;
  } else {
    EXPECT_EQ(got.token, wanted.token) << text_of(asked);
  }
  ASSERT_EQ(static_cast<std::size_t>(got.top_count), wanted.top.size()) << text_of(asked);
  for (std::int32_t i = 0; i < got.top_count; ++i) {
    EXPECT_EQ(got.top_token[i], wanted.top[static_cast<std::size_t>(i)].token) << text_of(asked);
    expect_logprob(got.top_logprob[i], wanted.top[static_cast<std::size_t>(i)].logprob, asked);
    if (got.top_token[i] == got.token) {
      EXPECT_EQ(got.logprob, got.top_logprob[i]) << "lm-eval compares them exactly";
    }
  }
  if (got.token == wanted.token) expect_logprob(got.logprob, wanted.logprob, asked);
}

/// Rows of many kinds, all of one vocabulary.
class RandomRows {
 public:
  RandomRows(std::int32_t vocabulary, unsigned seed) : vocabulary_(vocabulary), random_(seed) {}

  Asked next() {
    Asked asked;
    asked.logits = logits();
    stage::Sampling& sampling = asked.sampling;
    sampling.temperature = one_of<float>({0.0F, 0.0F, 1e-38F, 0.3F, 0.7F, 1.0F, 2.5F});
    sampling.top_k = one_of<std::int32_t>({0, 0, 1, 2, 7, 50, 1024, vocabulary_, vocabulary_ + 5});
    sampling.top_p = one_of<float>({1.0F, 1.0F, 0.999F, 0.9F, 0.5F, 1e-6F});
    sampling.repetition_penalty = one_of<float>({1.0F, 1.0F, 1.3F, 0.7F});
    sampling.logprobs = one_of<std::int32_t>({-1, -1, 0, 1, 5, 20});
    sampling.seed = random_();
    asked.position = below(2000);
    const std::int32_t seen = below(40);
    for (std::int32_t i = 0; i < seen; ++i) asked.history.push_back(below(vocabulary_));
    if (below(3) == 0) edit(asked);
    if (below(6) == 0) asked.token = below(vocabulary_);
    return asked;
  }

 private:
  std::int32_t below(std::int32_t end) {
    return static_cast<std::int32_t>(random_() % static_cast<unsigned>(end));
  }
  template <class Value>
  Value one_of(const std::vector<Value>& values) {
    return values[random_() % values.size()];
  }
  /// Settings that edit logits, some at a time.
  void edit(Asked& asked) {
    stage::Sampling& sampling = asked.sampling;
    sampling.min_p = one_of<float>({0.0F, 0.0F, 0.05F, 0.5F, 1.0F});
    sampling.frequency_penalty = one_of<float>({0.0F, 0.0F, 0.5F, -1.5F});
    sampling.presence_penalty = one_of<float>({0.0F, 0.0F, 1.25F});
    sampling.no_repeat_ngram = one_of<std::int32_t>({0, 0, 1, 2, 3});
    sampling.of_beam = below(8) == 0;
    sampling.answer_begin = below(static_cast<std::int32_t>(asked.history.size()) + 1);
    sampling.min_tokens = below(50);
    for (std::int32_t token = 0; token < vocabulary_; token += 1 + below(vocabulary_)) {
      asked.rules.biases.push_back({token, one_of<float>({-100.0F, -1.5F, 2.0F, 100.0F})});
    }
    for (std::int32_t count = below(4); count > 0; --count) {
      std::vector<std::int32_t>& banned = asked.rules.banned.emplace_back();
      const std::int32_t seen = static_cast<std::int32_t>(asked.history.size());
      const std::int32_t before = std::min(below(3), seen);
      banned.assign(asked.history.end() - before, asked.history.end());
      banned.push_back(below(vocabulary_));
    }
    for (std::int32_t count = below(3); count > 0; --count) {
      asked.rules.ends.push_back(below(vocabulary_));
    }
    for (std::int32_t words = (vocabulary_ + 31) / 32; below(3) > 0 && words > 0; --words) {
      asked.mask.push_back(static_cast<std::uint32_t>(random_() | random_()));
    }
    asked.mask.resize(asked.mask.empty() ? 0 : static_cast<std::size_t>(vocabulary_ + 31) / 32);
  }
  std::vector<float> logits() {
    std::vector<float> made(static_cast<std::size_t>(vocabulary_));
    const auto spread = one_of<float>({0.01F, 1.0F, 8.0F});
    std::normal_distribution<float> normal(one_of<float>({0.0F, -9.0F, 5.0F}), spread);
    for (float& logit : made) logit = normal(random_);
    switch (below(6)) {
      case 0:  // many ties, zeros of both signs among them
        for (float& logit : made) logit = std::round(logit / spread) * spread;
        break;
      case 1:
        std::fill(made.begin(), made.end(), made[0]);
        break;
      case 2:
        for (float& logit : made) logit = below(3) == 0 ? -kInfinity : logit;
        break;
      case 3:
        if (below(2) == 0) made[made.size() / 2] = one_of<float>({NAN, kInfinity, kMost, -kMost});
        break;
      default:
        break;
    }
    return made;
  }

  std::int32_t vocabulary_;
  std::mt19937 random_;
};

}  // namespace sluice::sample_test
