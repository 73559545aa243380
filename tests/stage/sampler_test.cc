#include "stage/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

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

TEST(SamplerTest, RepetitionPenaltyIsHuggingFaces) {
  Sampler sampler(3);
  Sampling sampling;
  sampling.repetition_penalty = 2.0F;
  const std::vector<std::int32_t> history = {0, 0, 2};
  // 3 -> 1.5 (once, though seen twice), 2 stays, -1 -> -2.
  EXPECT_EQ(sampler.sample(std::vector<float>{3.0F, 2.0F, -1.0F}, sampling, history, 0).token, 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-3.0F, -5.0F, -2.9F}, sampling, history, 0).token, 1);
}

TEST(SamplerTest, LogprobsAreTheModelsAndTheChosenOneEqualsItsEntry) {
  Sampler sampler(4);
  Sampling sampling;
  sampling.logprobs = 2;
  const std::vector<float> logits = {1.0F, 3.0F, 2.0F, -4.0F};
  const TokenResult result = sampler.sample(logits, sampling, {}, 0);
  const double sum = std::exp(1.0) + std::exp(3.0) + std::exp(2.0) + std::exp(-4.0);
  ASSERT_EQ(result.top_count, 2);
  EXPECT_EQ(result.top[0].token, 1);
  EXPECT_EQ(result.top[1].token, 2);
  EXPECT_NEAR(result.logprob, 3.0 - std::log(sum), 1e-6);
  EXPECT_EQ(result.logprob, result.top[0].logprob) << "lm-eval compares them exactly";
  EXPECT_NEAR(sampler.score(logits, 3, 0).logprob, -4.0 - std::log(sum), 1e-6);
}

}  // namespace
}  // namespace sluice::stage
