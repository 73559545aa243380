// The sampling kernel on the host.
#include "tests/support/cuda_on_host.h"
// The kernel wants the words above.
#include <gtest/gtest.h>

#include "kernels/cuda/sample.cuh"
#include "tests/support/sample_cases.h"

namespace sluice {
namespace {

using namespace sample_test;
using kernels::SampledRow;
using support::launch_on_host;

std::vector<SampledRow> sampled(const std::vector<Asked>& asked, unsigned threads = 32) {
  const SampleInput input(asked);
  std::vector<float> scratch(input.logits.size(), NAN);
  std::vector<SampledRow> results(asked.size());
  for (SampledRow& result : results) result.token = -99;
  launch_on_host({static_cast<unsigned>(asked.size()), 1, 1}, threads, 0, [&] {
    cuda::sample_kernel(results.data(), input.logits.data(),
                        static_cast<std::int32_t>(asked[0].logits.size()), input.rows.data(),
                        {input.edits.data(), input.masks.data()}, scratch.data());
  });
  return results;
}

TEST(CudaSample, IsTheHostSamplersAnswerOverManyKindsOfRows) {
  Counts counts;
  unsigned seed = 1;
  for (const std::int32_t vocabulary : {1, 2, 3, 31, 32, 33, 100, 257, 1025, 3001}) {
    RandomRows random(vocabulary, ++seed);
    std::vector<Asked> asked;
    for (int i = 0; i < 60; ++i) asked.push_back(random.next());
    const std::vector<SampledRow> results = sampled(asked);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      expect_as_on_the_host(asked[i], results[i], counts);
    }
  }
  EXPECT_GT(counts.draws, 250);
  EXPECT_GT(counts.certain, counts.draws * 98 / 100);
}

TEST(CudaSample, TheVocabularyOfOpt) {
  RandomRows random(50272, 7);
  std::vector<Asked> asked;
  for (int i = 0; i < 5; ++i) {
    Asked& one = asked.emplace_back(random.next());
    std::mt19937 bits(static_cast<unsigned>(i));
    std::normal_distribution<float> normal(0.0F, 3.0F);
    for (float& logit : one.logits) logit = normal(bits);
    one.sampling = {};
    one.sampling.seed = static_cast<std::uint64_t>(i);
    one.sampling.temperature = i == 0 ? 0.0F : 0.8F;
    one.token = -1;
  }
  asked[0].sampling.logprobs = 5;
  asked[0].sampling.repetition_penalty = 1.2F;
  asked[2].sampling.top_p = 0.95F;
  asked[3].sampling.top_k = 50;
  asked[4].sampling.top_k = 20000;  // far more than shared memory lists
  asked[4].sampling.top_p = 0.9F;
  Counts counts;
  const std::vector<SampledRow> results = sampled(asked, 64);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    expect_as_on_the_host(asked[i], results[i], counts);
  }
  EXPECT_EQ(counts.draws, 4);
}

bool operator==(const SampledRow& a, const SampledRow& b) {
  return a.token == b.token && a.logprob == b.logprob && a.top_count == b.top_count &&
         std::equal(a.top_token, a.top_token + a.top_count, b.top_token) &&
         std::equal(a.top_logprob, a.top_logprob + a.top_count, b.top_logprob);
}

TEST(CudaSample, ARowsResultDependsNeitherOnItsCompanyNorOnTheThreads) {
  RandomRows random(1500, 3);
  std::vector<Asked> asked;
  for (int i = 0; i < 12; ++i) asked.push_back(random.next());
  const std::vector<SampledRow> together = sampled(asked, 32);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    EXPECT_TRUE(sampled({asked[i]}, 128)[0] == together[i]) << text_of(asked[i]);
  }
  EXPECT_TRUE(sampled({asked[5]}, cuda::kSampleThreads)[0] == together[5]);
}

// Where every token is as likely as every other, the uniform says which it is; with all of them cut
// to the first by id.
TEST(CudaSample, EqualsGoById) {
  for (const std::int32_t vocabulary : {7, 1500}) {
    std::vector<Asked> asked;
    for (std::int64_t position = 0; position < 10; ++position) {
      for (const std::int32_t top_k : {0, 5}) {
        Asked& one = asked.emplace_back();
        one.logits.assign(static_cast<std::size_t>(vocabulary), -3.25F);
        one.sampling.temperature = 0.9F;
        one.sampling.top_k = top_k;
        one.sampling.seed = 4;
        one.position = position;
      }
    }
    const std::vector<SampledRow> results = sampled(asked);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      const double uniform = stage::uniform_of(4, asked[i].position);
      const std::int32_t kept = asked[i].sampling.top_k > 0 ? 5 : vocabulary;
      EXPECT_EQ(results[i].token, static_cast<std::int32_t>(uniform * kept)) << text_of(asked[i]);
    }
  }
}

TEST(CudaSample, LogitsThatAreNotFiniteAreAFailureNotAToken) {
  for (const std::vector<float>& logits : std::vector<std::vector<float>>{
           {0, NAN, 1, 2}, {-NAN, 0, 1, 2}, {0, kInfinity, 1, 2}, std::vector(4, -kInfinity)}) {
    for (const float temperature : {0.0F, 1.0F}) {
      for (const std::int32_t token : {-1, 2}) {
        for (const float penalty : {1.0F, 1.5F}) {
          Asked asked;
          asked.logits = logits;
          asked.sampling.temperature = temperature;
          asked.sampling.logprobs = 2;
          asked.sampling.repetition_penalty = penalty;
          asked.history = {2};
          asked.token = token;
          const SampledRow got = sampled({asked})[0];
          EXPECT_EQ(got.token, -1);
          EXPECT_EQ(got.top_count, 0);
          EXPECT_EQ(got.logprob, 0.0F);
        }
      }
    }
  }
}

TEST(CudaSample, AnyTemperatureIsWorkable) {
  std::vector<Asked> all;
  for (const std::vector<float>& logits : std::vector<std::vector<float>>{
           {-3.0F, 20.0F, 19.999F, -kInfinity}, {-kMost, kMost, 0, 1}}) {
    for (const float temperature : {1e-38F, std::numeric_limits<float>::denorm_min()}) {
      for (const float top_p : {1.0F, 0.5F, 1e-38F}) {
        for (const std::int32_t top_k : {0, 3}) {
          Asked& asked = all.emplace_back();
          asked.logits = logits;
          asked.sampling.temperature = temperature;
          asked.sampling.top_p = top_p;
          asked.sampling.top_k = top_k;
          asked.sampling.seed = 5;
        }
      }
    }
  }
  const std::vector<SampledRow> results = sampled(all);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(results[i].token, 1) << text_of(all[i]);
}

TEST(CudaSample, ATokenSeenTwiceIsPenalisedOnce) {
  Asked asked;
  asked.logits = {3.0F, 2.0F, -1.0F};
  asked.sampling.repetition_penalty = 2.0F;
  asked.history = {0, 0, 2};
  for (int i = 0; i < 300; ++i) asked.history.push_back(0);  // by several threads, again and again
  EXPECT_EQ(sampled({asked})[0].token, 1);
  asked.logits = {3.0F, 1.4F, -1.0F};  // 3 -> 1.5
  EXPECT_EQ(sampled({asked})[0].token, 0);
}

}  // namespace
}  // namespace sluice
