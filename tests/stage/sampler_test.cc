#include "stage/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

namespace sluice::stage {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Sampling with_temperature(float temperature, std::uint64_t seed) {
  Sampling sampling;
  sampling.temperature = temperature;
  sampling.seed = seed;
  return sampling;
}

TEST(SamplerTest, GreedyTakesTheGreatestAndTheLowestIdAmongEquals) {
  Sampler sampler(3000);
  std::vector<float> logits(3000, -1.0F);
  logits[2500] = 4.0F;
  logits[1700] = 4.0F;
  EXPECT_EQ(sampler.sample(logits, {}, {}, 0).token, 1700);
}

TEST(SamplerTest, LogitsThatAreNotFiniteAreAFailureNotAToken) {
  Sampler sampler(4);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, NAN, 1, 2}, {}, {}, 0).token, -1);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, kInfinity, 1, 2}, {}, {}, 0).token, -1);
  EXPECT_EQ(sampler.sample(std::vector<float>(4, -kInfinity), {}, {}, 0).token, -1);
  EXPECT_EQ(sampler.score(std::vector<float>{0, NAN, 1, 2}, 2, 1).token, -1);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, -kInfinity, 1, 2}, {}, {}, 0).token, 3);
}

TEST(SamplerTest, ResultDependsOnSeedAndPositionAlone) {
  Sampler sampler(64);
  Sampler other(64);
  std::vector<float> logits(64);
  for (std::size_t i = 0; i < 64; ++i) logits[i] = std::sin(static_cast<float>(i));
  std::map<std::int32_t, int> seen;
  for (std::int64_t position = 0; position < 200; ++position) {
    const Sampling sampling = with_temperature(1.0F, 7);
    const std::int32_t token = sampler.sample(logits, sampling, {}, position).token;
    EXPECT_EQ(token, other.sample(logits, sampling, {}, position).token);
    ++seen[token];
    other.sample(logits, with_temperature(1.0F, 8), {}, 3);  // leaves no trace
  }
  EXPECT_GT(seen.size(), 10U);
}

TEST(SamplerTest, FrequenciesFollowTheProbabilities) {
  Sampler sampler(3);
  const std::vector<float> logits = {std::log(0.2F), std::log(0.5F), std::log(0.3F)};
  int counts[3] = {};
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    ++counts[sampler.sample(logits, with_temperature(1.0F, 1), {}, i).token];
  }
  // Five standard deviations of a binomial; the draws are a fixed sequence.
  EXPECT_NEAR(counts[0], 0.2 * kDraws, 283);
  EXPECT_NEAR(counts[1], 0.5 * kDraws, 354);
  EXPECT_NEAR(counts[2], 0.3 * kDraws, 324);
}

TEST(SamplerTest, TopKAndTopPKeepTheLikeliestOnly) {
  Sampler sampler(5);
  const std::vector<float> logits = {std::log(0.1F), std::log(0.4F), std::log(0.05F),
                                     std::log(0.3F), std::log(0.15F)};
  Sampling top_k = with_temperature(1.0F, 3);
  top_k.top_k = 2;
  Sampling top_p = with_temperature(1.0F, 3);
  top_p.top_p = 0.6F;  // 0.4 + 0.3 crosses it
  Sampling tiny_p = with_temperature(1.0F, 3);
  tiny_p.top_p = 1e-6F;
  std::map<std::int32_t, int> by_k;
  std::map<std::int32_t, int> by_p;
  for (int i = 0; i < 500; ++i) {
    ++by_k[sampler.sample(logits, top_k, {}, i).token];
    ++by_p[sampler.sample(logits, top_p, {}, i).token];
    EXPECT_EQ(sampler.sample(logits, tiny_p, {}, i).token, 1);
  }
  for (const auto& seen : {by_k, by_p}) {
    EXPECT_EQ(seen.size(), 2U);
    EXPECT_TRUE(seen.count(1) == 1 && seen.count(3) == 1);
  }
}

// The smallest temperatures leave the greatest only; no logit or temperature makes a NaN.
TEST(SamplerTest, AnyTemperatureIsWorkable) {
  Sampler sampler(4);
  constexpr float kMost = std::numeric_limits<float>::max();
  const std::vector<std::vector<float>> rows = {
      {-3.0F, 20.0F, 19.999F, -kInfinity}, {-30.0F, -2.0F, -20.0F, -9.0F}, {-kMost, kMost, 0, 1}};
  for (const std::vector<float>& logits : rows) {
    for (const float temperature : {1e-38F, std::numeric_limits<float>::denorm_min(), 1e-6F}) {
      for (const float top_p : {1.0F, 0.5F, 1e-38F}) {
        for (const std::int32_t top_k : {0, 1, 3}) {
          Sampling sampling = with_temperature(temperature, 5);
          sampling.top_p = top_p;
          sampling.top_k = top_k;
          for (std::int64_t position = 0; position < 20; ++position) {
            ASSERT_EQ(sampler.sample(logits, sampling, {}, position).token, 1)
                << temperature << ' ' << top_p << ' ' << top_k;
          }
        }
      }
    }
  }
}

TEST(SamplerTest, MinPKeepsAShareOfTheLikeliest) {
  Sampler sampler(5);
  const std::vector<float> logits = {std::log(0.1F), std::log(0.4F), std::log(0.05F),
                                     std::log(0.25F), std::log(0.2F)};
  for (const float top_p : {1.0F, 0.99F}) {
    for (const std::int32_t top_k : {0, 4}) {
      Sampling sampling = with_temperature(1.0F, 3);
      sampling.min_p = 0.4F;  // of 0.4: 0.25 and 0.2 are above
      sampling.top_p = top_p;
      sampling.top_k = top_k;
      std::map<std::int32_t, int> seen;
      for (int i = 0; i < 500; ++i) ++seen[sampler.sample(logits, sampling, {}, i).token];
      EXPECT_EQ(seen.size(), 3U);
      EXPECT_TRUE(seen.contains(1) && seen.contains(3) && seen.contains(4));
      sampling.min_p = 1.0F;
      EXPECT_EQ(sampler.sample(logits, sampling, {}, 1).token, 1);
    }
  }
}

/// By the definition: all sorted (or, where nothing is cut, by id), cut, then walked.
std::int32_t reference(const std::vector<float>& logits, const Sampling& sampling,
                       std::int64_t position) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const bool cut = sampling.top_k > 0 || sampling.top_p < 1.0F;
  if (cut) {
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  }
  if (sampling.top_k > 0) order.resize(static_cast<std::size_t>(sampling.top_k));
  const auto top = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  const auto weight = [&](std::size_t token) {
    return std::exp((static_cast<double>(logits[token]) - top) /
                    static_cast<double>(sampling.temperature));
  };
  double total = 0;
  for (const std::size_t token : order) total += weight(token);
  double kept = 0;
  std::size_t count = 0;
  while (count < order.size() && kept < static_cast<double>(sampling.top_p) * total) {
    kept += weight(order[count++]);
  }
  double left = uniform_of(sampling.seed, position) * kept;
  for (std::size_t i = 0; i < count; ++i) {
    left -= weight(order[i]);
    if (left < 0) return static_cast<std::int32_t>(order[i]);
  }
  return static_cast<std::int32_t>(order[count - 1]);
}

// Few tokens kept or nearly all of a vocabulary, with many equal logits: the short cuts choose what
// sorting everything would.
TEST(SamplerTest, ChoosesWhatTheDefinitionDoes) {
  constexpr std::int32_t kVocabulary = 6000;
  Sampler sampler(kVocabulary);
  std::mt19937 random(3);
  for (const float spread : {0.01F, 1.0F, 8.0F}) {
    std::vector<float> logits(kVocabulary);
    for (float& logit : logits) logit = spread * static_cast<float>(random() % 1000) / 1000.0F;
    for (const float top_p : {1.0F, 0.999F, 0.5F, 0.001F}) {
      for (const std::int32_t top_k : {0, 1, 50, 4000}) {
        Sampling sampling = with_temperature(0.7F, 11);
        sampling.top_p = top_p;
        sampling.top_k = top_k;
        for (std::int64_t position = 0; position < 4; ++position) {
          ASSERT_EQ(sampler.sample(logits, sampling, {}, position).token,
                    reference(logits, sampling, position))
              << spread << ' ' << top_p << ' ' << top_k;
        }
      }
    }
  }
}

TEST(SamplerTest, RepetitionPenaltyIsHuggingFaces) {
  Sampling sampling;
  sampling.repetition_penalty = 2.0F;
  const std::vector<std::int32_t> history = {0, 0, 2};
  // 3 -> 1.5 (once, though seen twice), 2 stays, -1 -> -2.
  Sampler sampler(3, 3);
  EXPECT_EQ(sampler.sample(std::vector<float>{3.0F, 2.0F, -1.0F}, sampling, {history}, 0).token, 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-3.0F, -5.0F, -2.9F}, sampling, {history}, 0).token,
            1);
}

TEST(SamplerTest, ARowWithoutATokenLeftIsToldFromLogitsThatAreNotFinite) {
  Sampler sampler(3, 3, kMaxRuleWords);
  TokenRules rules;
  rules.banned = {{0}, {1}, {2}};
  const std::vector<std::int32_t> words = encode(rules);
  const SequenceSoFar so_far = {{}, TokenRuleView(words)};
  const std::vector<float> logits = {1.0F, 2.0F, 3.0F};
  EXPECT_EQ(sampler.sample(logits, {}, so_far, 0).token, kernels::kAllRuledOut);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, NAN, 3}, {}, so_far, 0).token,
            kernels::kNotFinite);
  const std::uint32_t only_one = 2;
  EXPECT_EQ(sampler.sample(logits, {}, {{}, {}, {&only_one, 1}}, 0).token, 1);
}

// A step of a beam search: log-probabilities are edited, not logits.
TEST(SamplerTest, ABeamsStepTellsEditedLogProbabilities) {
  Sampler sampler(3, 1);
  Sampling sampling;
  sampling.of_beam = true;
  sampling.temperature = 1.0F;
  sampling.repetition_penalty = 2.0F;
  sampling.logprobs = 3;
  const std::vector<std::int32_t> history = {2};
  const std::vector<float> logits = {1.0F, 2.0F, 4.0F};
  const TokenResult result = sampler.sample(logits, sampling, {history}, 1);
  const double log_sum = std::log(std::exp(1.0) + std::exp(2.0) + std::exp(4.0));
  ASSERT_EQ(result.top.size(), 3U);
  EXPECT_EQ(result.token, 2);
  EXPECT_NEAR(result.top[0].logprob, 2 * (4.0 - log_sum), 1e-6);
  EXPECT_NEAR(result.top[1].logprob, 2.0 - log_sum, 1e-6);
  EXPECT_EQ(result.top[2].token, 0);
}

TEST(SamplerTest, LogprobsAreTheModelsAndTheChosenOneEqualsItsEntry) {
  Sampler sampler(4);
  Sampling sampling;
  sampling.logprobs = 2;
  const std::vector<float> logits = {1.0F, 3.0F, 2.0F, -4.0F};
  const TokenResult result = sampler.sample(logits, sampling, {}, 0);
  const double sum = std::exp(1.0) + std::exp(3.0) + std::exp(2.0) + std::exp(-4.0);
  ASSERT_EQ(result.top.size(), 2U);
  EXPECT_EQ(result.top[0].token, 1);
  EXPECT_EQ(result.top[1].token, 2);
  EXPECT_NEAR(result.logprob, 3.0 - std::log(sum), 1e-6);
  EXPECT_EQ(result.logprob, result.top[0].logprob) << "lm-eval compares them exactly";
  EXPECT_NEAR(sampler.score(logits, 3, 0).logprob, -4.0 - std::log(sum), 1e-6);
}

}  // namespace
}  // namespace sluice::stage
