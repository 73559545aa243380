// Where the device samples, logits stay there and only tokens come home: the answers are those of
// sampling on the host.
#include <gtest/gtest.h>

#include <algorithm>

#include "stage/token_rules.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/same_answers.h"

namespace sluice {
namespace {

using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

/// Of every kind; those of two prompts differ.
stage::TokenRules rules_of(const std::vector<std::int32_t>& prompt) {
  stage::TokenRules rules;
  rules.biases = {{prompt.front(), 1.5F}, {prompt.front() + 1, -4.0F}};
  rules.banned = {{prompt.back()}, {prompt.back(), prompt.front()}};
  rules.ends = {2, 3, prompt.front() + 2};
  return rules;
}

/// Of every kind of sampling, some with all at once.
std::vector<stage::Request> requests_of(const support::ReferenceCases& cases) {
  std::vector<stage::Request> requests;
  for (std::size_t i = 0; i < cases.prompts.size(); ++i) {
    stage::Request& request = requests.emplace_back();
    request.prompt = cases.prompts[i].prompt;
    const auto greedy = static_cast<std::int32_t>(cases.prompts[i].greedy.size());
    request.max_tokens = i % 7 == 6 ? 0 : std::min(greedy, 9);
    stage::Sampling& sampling = request.sampling;
    sampling.temperature = i % 3 == 0 ? 0.0F : 0.9F;
    sampling.top_k = i % 4 == 1 ? 40 : 0;
    sampling.top_p = i % 4 == 2 ? 0.9F : 1.0F;
    sampling.repetition_penalty = i % 2 == 0 ? 1.0F : 1.3F;
    sampling.min_p = i % 5 == 3 ? 0.1F : 0.0F;
    sampling.frequency_penalty = i % 4 == 3 ? 0.7F : 0.0F;
    sampling.presence_penalty = i % 6 == 5 ? 1.1F : 0.0F;
    sampling.no_repeat_ngram = i % 3 == 2 ? 2 : 0;
    sampling.min_tokens = i % 2 == 0 ? 4 : 0;
    sampling.answer_begin = static_cast<std::int32_t>(request.prompt.size());
    if (i % 3 != 0) request.rules = encode(rules_of(request.prompt));
    sampling.seed = 1000 + i;
    sampling.logprobs = static_cast<std::int32_t>(i % 5) - 1;
    request.scores_from = i % 3 != 1 ? 1 + static_cast<std::int32_t>(i % 5) : 0;
  }
  return requests;
}

struct Shape {
  std::int32_t stages;
  std::int32_t gpu_batch_size;  // rows of logits at a time
  std::int32_t num_gpu_batches;
  std::int32_t max_tokens;
};

TEST(DeviceSampling, AnswersAreThoseOfSamplingOnTheHost) {
  for (const char* name : {"opt-pre", "opt-post-proj"}) {
    const support::ReferenceCases cases = support::read_reference(name);
    const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
    const std::vector<stage::Request> requests = requests_of(cases);
    PipelineOptions options;
    options.batching.gpu_batch_size = 4;
    options.batching.max_tokens_per_gpu_batch = 200;
    options.batching.max_rule_words = 20;
    ListJob expected(requests);
    support::run_pipeline(model, options, expected);
    for (const Shape& shape : {Shape{1, 4, 1, 200}, Shape{1, 1, 3, 7}, Shape{3, 3, 2, 17}}) {
      for (const bool overlap : {true, false}) {
        options.device_samples = true;
        options.stages = shape.stages;
        options.policy = policy_of(30, 40, 50, 20, 50, 50);
        options.policy.overlap = overlap;
        options.batching.gpu_batch_size = shape.gpu_batch_size;
        options.batching.num_gpu_batches = shape.num_gpu_batches;
        options.batching.max_tokens_per_gpu_batch = shape.max_tokens;
        ListJob job(requests);
        support::run_pipeline(model, options, job);
        for (std::size_t i = 0; i < requests.size(); ++i) {
          SCOPED_TRACE(std::string(name) + " request " + std::to_string(i) + ", stages " +
                       std::to_string(shape.stages));
          EXPECT_EQ(job.answers[i].failure, expected.answers[i].failure);
          EXPECT_EQ(job.answers[i].tokens, expected.answers[i].tokens);
          EXPECT_EQ(job.answers[i].prompt_done, expected.answers[i].prompt_done);
          support::expect_same(job.answers[i].results, expected.answers[i].results);
          support::expect_same(job.answers[i].prompt_results, expected.answers[i].prompt_results);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice
