// A prompt with a part of its answer behind it, computed as one prefill, goes on as if nothing had
// happened: the same tokens and the same bits of log-probabilities, in every family and cache type.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "stage/token_rules.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/test_name.h"

namespace sluice {
namespace {

using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

constexpr std::int32_t kTokens = 12;
constexpr std::int32_t kLongest = 96;  // prompt and answer: no model here has fewer positions

/// All that tells prompt and answer apart.
void look_at_answer(stage::Request& request) {
  request.sampling.answer_begin = static_cast<std::int32_t>(request.prompt.size());
  request.sampling.frequency_penalty = 0.6F;
  request.sampling.presence_penalty = 0.3F;
  request.sampling.no_repeat_ngram = 2;
  request.sampling.min_tokens = 8;
  stage::TokenRules rules;
  for (std::int32_t token = 0; token < 60; token += 2) rules.ends.push_back(token);
  request.rules = encode(rules);
}

/// Greedy, by chance, with a penalty that looks back at prompt and answer, and with all that looks
/// at the answer's tokens, in turn.
std::vector<stage::Request> requests_of(const support::ReferenceCases& cases) {
  std::vector<stage::Request> requests;
  for (const support::ReferencePrompt& prompt : cases.prompts) {
    const std::size_t kind = requests.size() % 4;
    stage::Request& request = requests.emplace_back();
    request.prompt = prompt.prompt;
    request.prompt.resize(std::min<std::size_t>(request.prompt.size(), kLongest - kTokens));
    request.max_tokens = kTokens;
    request.sampling.logprobs = 2;
    request.sampling.seed = requests.size();
    if (kind >= 1) request.sampling.temperature = 0.9F;
    if (kind == 1) request.sampling.top_p = 0.8F;
    if (kind == 2) request.sampling.repetition_penalty = 1.3F;
    if (kind == 3) look_at_answer(request);
  }
  return requests;
}

PipelineOptions options_of(const offload::Policy& policy, std::int32_t chunk) {
  PipelineOptions options;
  options.policy = policy;
  options.batching.gpu_batch_size = 3;
  options.batching.max_tokens_per_gpu_batch = chunk;
  options.batching.max_sequence_tokens = kLongest;
  options.batching.max_rule_words = 40;
  return options;
}

/// Runs the requests, and again with the first tokens of each answer as a part of its prompt.
void expect_to_go_on(const launcher::ModelFolder& model,
                     const std::vector<stage::Request>& requests, const PipelineOptions& options,
                     const PipelineOptions& again) {
  ListJob whole(requests);
  support::run_pipeline(model, options, whole);
  std::vector<stage::Request> rest = requests;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    const auto made = static_cast<std::ptrdiff_t>(1 + i * 5 % (kTokens - 1));
    const std::vector<std::int32_t>& tokens = whole.answers[i].tokens;
    rest[i].prompt.insert(rest[i].prompt.end(), tokens.begin(), tokens.begin() + made);
    rest[i].max_tokens -= static_cast<std::int32_t>(made);
  }
  ListJob job(rest);
  support::run_pipeline(model, again, job);
  for (std::size_t i = 0; i < rest.size(); ++i) {
    ASSERT_EQ(job.answers[i].failure, "");
    const std::vector<ListJob::Result>& got = job.answers[i].results;
    const std::vector<ListJob::Result>& wanted = whole.answers[i].results;
    ASSERT_EQ(static_cast<std::int32_t>(got.size()), rest[i].max_tokens);
    for (std::size_t k = 0; k < got.size(); ++k) {
      const ListJob::Result& expected = wanted[wanted.size() - got.size() + k];
      ASSERT_EQ(got[k].token, expected.token) << "prompt " << i << ", token " << k;
      ASSERT_EQ(got[k].logprob, expected.logprob) << "prompt " << i << ", token " << k;
      for (std::size_t n = 0; n < expected.top.size(); ++n) {
        ASSERT_EQ(got[k].top[n].token, expected.top[n].token);
        ASSERT_EQ(got[k].top[n].logprob, expected.top[n].logprob);
      }
    }
  }
}

class RestoredAnswersTest : public testing::TestWithParam<std::string> {};

TEST_P(RestoredAnswersTest, GoOn) {
  const support::ReferenceCases cases = support::read_reference(GetParam());
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  offload::Policy spread = policy_of(30, 40, 30, 40, 50, 50);
  spread.cpu_cache_compute = true;
  expect_to_go_on(model, requests_of(cases), options_of({}, 64), options_of(spread, 16));
}

INSTANTIATE_TEST_SUITE_P(Families, RestoredAnswersTest,
                         testing::ValuesIn(support::checkpoint_names()), support::test_name);

TEST(RestoredAnswers, GoOnWithEveryTypeOfCacheAndOfWeights) {
  const support::ReferenceCases cases = support::read_reference("opt-deep");
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  for (const DType dtype : {DType::f16, DType::bf16, DType::q8, DType::q4}) {
    SCOPED_TRACE(name_of(dtype));
    offload::Policy policy = policy_of(100, 0, 50, 50, 100, 0);
    policy.cache_dtype = dtype;
    if (dtype == DType::q4) policy.compress_weight = offload::Compression::four_bit;
    expect_to_go_on(model, requests_of(cases), options_of(policy, 64), options_of(policy, 10));
  }
}

TEST(RestoredAnswers, GoOnBehindAWindow) {
  launcher::ModelFolder model =
      launcher::open_model(support::read_reference("opt-deep").folder.string());
  for (std::int32_t layer = 0; layer < model.config.layers; ++layer) {
    model.config.attention.windows.push_back(layer % 2 == 0 ? 24 : 0);
  }
  std::vector<stage::Request> requests = requests_of(support::read_reference("opt-deep"));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt.clear();
    for (std::size_t k = 0; k < 50 + 7 * (i % 4); ++k) {
      requests[i].prompt.push_back(static_cast<std::int32_t>((i * 37 + 11) * (k + 3) % 500));
    }
  }
  PipelineOptions stages = options_of({}, 12);
  stages.stages = 2;
  expect_to_go_on(model, requests, options_of({}, 300), stages);
}

}  // namespace
}  // namespace sluice
