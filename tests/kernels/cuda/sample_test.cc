// The sampling kernel on the host, against stage::Sampler and, where it draws, against the
// definition in double precision.
#include "tests/support/cuda_on_host.h"
// The kernel wants the words above.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/sample.cuh"
#include "stage/sampler.h"

namespace sluice {
namespace {

using kernels::SampledRow;
using kernels::SampleRow;
using stage::Sampling;
using support::launch_on_host;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kMost = std::numeric_limits<float>::max();

/// What is asked of one row.
struct Asked {
  std::vector<float> logits;
  Sampling sampling;
  std::vector<std::int32_t> history;
  std::int64_t position = 0;
  std::int32_t token = -1;  // >= 0: it is scored
};

std::string text_of(const Asked& asked) {
  return "vocabulary " + std::to_string(asked.logits.size()) + ", temperature " +
         std::to_string(asked.sampling.temperature) + ", top_k " +
         std::to_string(asked.sampling.top_k) + ", top_p " + std::to_string(asked.sampling.top_p) +
         ", penalty " + std::to_string(asked.sampling.repetition_penalty) + ", seed " +
         std::to_string(asked.sampling.seed) + ", token " + std::to_string(asked.token);
}

/// All rows, of one vocabulary, in one launch.
std::vector<SampledRow> sampled(const std::vector<Asked>& asked, unsigned threads = 32) {
  const std::size_t vocabulary = asked[0].logits.size();
  std::vector<float> logits;
  std::vector<std::int32_t> history = {-7};  // of nobody
  std::vector<SampleRow> rows;
  for (const Asked& one : asked) {
    logits.insert(logits.end(), one.logits.begin(), one.logits.end());
    SampleRow& row = rows.emplace_back();
    row.uniform = stage::uniform_of(one.sampling.seed, one.position);
    row.temperature = one.sampling.temperature;
    row.top_p = one.sampling.top_p;
    row.repetition_penalty = one.sampling.repetition_penalty;
    row.top_k = one.sampling.top_k;
    row.logprobs = one.sampling.logprobs;
    row.token = one.token;
    row.history_first = static_cast<std::int32_t>(history.size());
    row.history_count = static_cast<std::int32_t>(one.history.size());
    history.insert(history.end(), one.history.begin(), one.history.end());
  }
  std::vector<float> scratch(logits.size(), NAN);
  std::vector<SampledRow> results(asked.size());
  for (SampledRow& result : results) result.token = -99;
  launch_on_host({static_cast<unsigned>(asked.size()), 1, 1}, threads, 0, [&] {
    cuda::sample_kernel(results.data(), logits.data(), static_cast<std::int32_t>(vocabulary),
                        rows.data(), history.data(), scratch.data());
  });
  return results;
}

stage::TokenResult on_the_host(const Asked& asked) {
  stage::Sampler sampler(static_cast<std::int32_t>(asked.logits.size()));
  if (asked.token >= 0) {
    return sampler.score(asked.logits, asked.token, asked.sampling.logprobs);
  }
  return sampler.sample(asked.logits, asked.sampling, asked.history, asked.position);
}

/// Every token that a draw may give where sums are exact to kExact of all that is kept: those whose
/// part of the sum is that near to the uniform, for each nucleus that ends that near to top_p.
std::set<std::int32_t> drawn_by_definition(const Asked& asked) {
  constexpr double kExact = 1e-6;
  const Sampling& sampling = asked.sampling;
  std::vector<float> scores = asked.logits;
  for (const std::int32_t token : asked.history) {
    const auto t = static_cast<std::size_t>(token);
    const float logit = asked.logits[t];
    scores[t] =
        logit > 0.0F ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
  }
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const bool cuts_count =
      sampling.top_k > 0 && static_cast<std::size_t>(sampling.top_k) < scores.size();
  if (cuts_count || sampling.top_p < 1.0F) {
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
  const double wanted = static_cast<double>(sampling.top_p) * ends.back();
  std::set<std::int32_t> tokens;
  for (std::size_t count = 1; count <= ends.size(); ++count) {
    const double slack = kExact * ends.back();
    const double before = count == 1 ? -1.0 : ends[count - 2];
    const bool is_nucleus = sampling.top_p >= 1.0F
                                ? count == ends.size()
                                : before < wanted + slack && ends[count - 1] >= wanted - slack;
    if (!is_nucleus) continue;
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

void expect_logprob(float got, float wanted, const Asked& asked) {
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

void expect_as_on_the_host(const Asked& asked, const SampledRow& got, Counts& counts) {
  const stage::TokenResult wanted = on_the_host(asked);
  const bool draws = asked.token < 0 && asked.sampling.temperature > 0.0F && wanted.token >= 0;
  if (draws) {
    const std::set<std::int32_t> possible = drawn_by_definition(asked);
    ASSERT_EQ(possible.count(wanted.token), 1U) << "the test: " << text_of(asked);
    EXPECT_EQ(possible.count(got.token), 1U) << got.token << ": " << text_of(asked);
    ++counts.draws;
    counts.certain += possible.size() == 1 ? 1 : 0;
  } else {
    EXPECT_EQ(got.token, wanted.token) << text_of(asked);
  }
  ASSERT_EQ(got.top_count, wanted.top_count) << text_of(asked);
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
    Sampling& sampling = asked.sampling;
    sampling.temperature = one_of<float>({0.0F, 0.0F, 1e-38F, 0.3F, 0.7F, 1.0F, 2.5F});
    sampling.top_k = one_of<std::int32_t>({0, 0, 1, 2, 7, 50, 1024, vocabulary_, vocabulary_ + 5});
    sampling.top_p = one_of<float>({1.0F, 1.0F, 0.999F, 0.9F, 0.5F, 1e-6F});
    sampling.repetition_penalty = one_of<float>({1.0F, 1.0F, 1.3F, 0.7F});
    sampling.logprobs = one_of<std::int32_t>({-1, -1, 0, 1, 5, 20});
    sampling.seed = random_();
    asked.position = below(2000);
    const std::int32_t seen = below(40);
    for (std::int32_t i = 0; i < seen; ++i) asked.history.push_back(below(vocabulary_));
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

TEST(CudaSample, IsTheHostSamplersAnswerOverManyKindsOfRows) {
  Counts counts;
  unsigned seed = 1;
  for (const std::int32_t vocabulary : {1, 2, 3, 31, 32, 33, 100, 257, 1025, 3001}) {
    RandomRows random(vocabulary, ++seed);
    std::vector<Asked> asked;
    for (int i = 0; i < 30; ++i) asked.push_back(random.next());
    const std::vector<SampledRow> results = sampled(asked);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      expect_as_on_the_host(asked[i], results[i], counts);
    }
  }
  EXPECT_GT(counts.draws, 120);
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
