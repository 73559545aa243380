// The first two laws: greedy fp32 tokens are Hugging Face's, for every variant of OPT; and the same
// tokens come out of every placement, number of stages, micro-batch and GPU-batch size. Every
// prompt is different from every other (FlexGen's wrong tokens hid behind equal ones).
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using support::ListJob;
using support::PipelineOptions;
using support::policy_of;
using support::ReferenceCases;

std::vector<stage::Request> greedy_requests(const ReferenceCases& cases) {
  std::vector<stage::Request> requests;
  for (const support::ReferencePrompt& prompt : cases.prompts) {
    stage::Request& request = requests.emplace_back();
    request.prompt = prompt.prompt;
    request.max_tokens = static_cast<std::int32_t>(prompt.greedy.size());
  }
  return requests;
}

/// Runs all prompts of a checkpoint together and compares every token.
void expect_reference_tokens(const std::string& name, const PipelineOptions& options) {
  const ReferenceCases cases = support::read_reference(name);
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  ListJob job(greedy_requests(cases));
  support::run_pipeline(model, options, job);
  for (std::size_t i = 0; i < cases.prompts.size(); ++i) {
    const support::ReferencePrompt& prompt = cases.prompts[i];
    EXPECT_TRUE(job.answers[i].failure.empty()) << job.answers[i].failure;
    EXPECT_EQ(job.answers[i].tokens, prompt.greedy) << name << " " << prompt.id;
  }
}

struct Configuration {
  std::string name;
  PipelineOptions options;
};
void PrintTo(const Configuration& configuration, std::ostream* out) { *out << configuration.name; }

Configuration configuration(const std::string& name, std::int32_t stages, offload::Policy policy,
                            std::int32_t gpu_batch_size, std::int32_t num_gpu_batches,
                            std::int32_t max_tokens) {
  Configuration made;
  made.name = name;
  made.options.stages = stages;
  made.options.policy = policy;
  made.options.batching.gpu_batch_size = gpu_batch_size;
  made.options.batching.num_gpu_batches = num_gpu_batches;
  made.options.batching.max_tokens_per_gpu_batch = max_tokens;
  return made;
}

struct Placement {
  const char* name;
  offload::Policy policy;
};

std::vector<Placement> placements() {
  std::vector<Placement> list = {
      {"device", policy_of(100, 0, 100, 0, 100, 0)},
      {"host", policy_of(0, 100, 0, 100, 0, 100)},
      {"disk", policy_of(0, 0, 0, 0, 0, 0)},
      {"mixed", policy_of(30, 40, 50, 20, 50, 50)},
      {"onebyone", policy_of(30, 40, 50, 20, 50, 30)},
      {"mlponce", policy_of(30, 40, 50, 20, 100, 0)},
      {"cpuattention", policy_of(30, 40, 50, 20, 50, 50)},
  };
  list[list.size() - 3].policy.overlap = false;
  list[list.size() - 2].policy.mlp_once = true;
  list.back().policy.cpu_cache_compute = true;
  return list;
}

std::vector<Configuration> all_configurations() {
  std::vector<Configuration> list;
  for (const Placement& placement : placements()) {
    for (const std::int32_t stages : {1, 2, 3, 4}) {
      for (const std::int32_t size : {1, 3, 8}) {
        // GPU batches per micro-batch and chunk sizes vary with the rest, so that all meet.
        const std::int32_t batches = 1 + (stages + size) % 3;
        const std::int32_t tokens = size == 3 ? 16 : 64;
        list.push_back(configuration(std::string(placement.name) + "_ranks" +
                                         std::to_string(stages) + "_batch" + std::to_string(size),
                                     stages, placement.policy, size, batches, tokens));
      }
    }
  }
  return list;
}

class ExactnessTest : public testing::TestWithParam<Configuration> {};

TEST_P(ExactnessTest, TokensAreHuggingFaces) {
  for (const std::string& name : support::reference_names()) {
    const launcher::ModelFolder model =
        launcher::open_model(support::read_reference(name).folder.string());
    if (model.config.layers < GetParam().options.stages) continue;  // refused: see bad_input_test
    expect_reference_tokens(name, GetParam().options);
  }
}

INSTANTIATE_TEST_SUITE_P(Configurations, ExactnessTest, testing::ValuesIn(all_configurations()),
                         [](const auto& each) { return each.param.name; });

TEST(ExactnessCaseTest, StagesMayHaveDifferentPolicies) {
  PipelineOptions options = configuration("", 3, {}, 2, 2, 24).options;
  options.policies = {placements()[3].policy, placements()[2].policy, placements()[4].policy};
  expect_reference_tokens("opt-deep", options);
}

TEST(ExactnessCaseTest, WithoutRefillOneMicroBatchAfterTheOther) {
  // Every prompt in a run of its own: nothing to share a pass with, nobody's place to take.
  const ReferenceCases cases = support::read_reference("opt-pre");
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  for (const support::ReferencePrompt& prompt : cases.prompts) {
    stage::Request request;
    request.prompt = prompt.prompt;
    request.max_tokens = static_cast<std::int32_t>(prompt.greedy.size());
    ListJob job({request});
    support::run_pipeline(model, configuration("", 2, {}, 1, 1, 200).options, job);
    EXPECT_EQ(job.answers[0].tokens, prompt.greedy) << prompt.id;
  }
}

TEST(ExactnessCaseTest, EndOfSequenceStopsARowAndNoOther) {
  for (const std::string& name : support::reference_names()) {
    const ReferenceCases cases = support::read_reference(name);
    if (cases.eos.empty()) continue;
    const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
    std::vector<stage::Request> requests;
    for (const ReferenceCases::Eos& entry : cases.eos) {
      stage::Request& request = requests.emplace_back();
      request.prompt = entry.prompt;
      request.max_tokens = entry.max_new_tokens;
    }
    ListJob job(requests, 2);
    support::run_pipeline(model, configuration("", 2, {}, 2, 1, 32).options, job);
    for (std::size_t i = 0; i < cases.eos.size(); ++i) {
      EXPECT_EQ(job.answers[i].tokens, cases.eos[i].tokens) << name;
    }
  }
}

/// Sampled answers and log-probabilities are the same bits in every configuration.
TEST(ExactnessCaseTest, SampledAnswersDependOnTheRequestAlone) {
  const ReferenceCases cases = support::read_reference("opt-pre");
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  std::vector<stage::Request> requests = greedy_requests(cases);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].sampling.temperature = 0.9F;
    requests[i].sampling.top_k = i % 2 == 0 ? 40 : 0;
    requests[i].sampling.top_p = 0.95F;
    requests[i].sampling.seed = 1000 + i;
    requests[i].sampling.repetition_penalty = 1.1F;
    requests[i].sampling.logprobs = 3;
    if (i % 3 == 0) requests[i].scores_from = 1 + static_cast<std::int32_t>(i % 4);
  }
  ListJob expected(requests);
  support::run_pipeline(model, configuration("", 1, {}, 1, 1, 200).options, expected);
  for (const Placement& placement : placements()) {
    ListJob job(requests);
    support::run_pipeline(model, configuration("", 3, placement.policy, 3, 2, 17).options, job);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const ListJob::Answer& answer = job.answers[i];
      ASSERT_EQ(answer.tokens, expected.answers[i].tokens) << placement.name << " " << i;
      ASSERT_EQ(answer.prompt_results.size(), expected.answers[i].prompt_results.size());
      for (std::size_t k = 0; k < answer.results.size(); ++k) {
        ASSERT_EQ(answer.results[k].logprob, expected.answers[i].results[k].logprob);
      }
      for (std::size_t k = 0; k < answer.prompt_results.size(); ++k) {
        ASSERT_EQ(answer.prompt_results[k].logprob, expected.answers[i].prompt_results[k].logprob);
        const auto index = k + static_cast<std::size_t>(requests[i].scores_from);
        EXPECT_EQ(answer.prompt_results[k].token, requests[i].prompt[index]);
      }
    }
  }
}

/// Log-probabilities of the first new token against Hugging Face's logits: within 1e-4.
TEST(ExactnessCaseTest, LogitsAreHuggingFaces) {
  for (const std::string& name : support::reference_names()) {
    const ReferenceCases cases = support::read_reference(name);
    const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
    std::vector<stage::Request> requests = greedy_requests(cases);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      // A prompt that fills every position has no place for a token: it is scored without its last.
      if (requests[i].max_tokens == 0) requests[i].prompt.resize(1);
      requests[i].max_tokens = 1;
      requests[i].sampling.logprobs = stage::kMaxLogprobs;
    }
    ListJob job(requests);
    support::run_pipeline(model, configuration("", 2, {}, 4, 1, 64).options, job);
    for (std::size_t i = 0; i < cases.prompts.size(); ++i) {
      const support::ReferencePrompt& prompt = cases.prompts[i];
      if (prompt.greedy.empty()) continue;
      std::map<std::int32_t, float> logits;
      for (std::size_t k = 0; k < prompt.logits.size(); ++k) {
        logits[prompt.logit_ids[k]] = prompt.logits[k];
      }
      const ListJob::Result& result = job.answers[i].results.at(0);
      ASSERT_EQ(result.top.size(), static_cast<std::size_t>(stage::kMaxLogprobs));
      // Softmax leaves differences: compare each with the likeliest.
      const stage::Candidate& best = result.top[0];
      for (const stage::Candidate& candidate : result.top) {
        ASSERT_EQ(logits.count(candidate.token), 1U) << name << " " << prompt.id;
        const float expected = logits[candidate.token] - logits[best.token];
        EXPECT_NEAR(candidate.logprob - best.logprob, expected, 3e-4) << name << " " << prompt.id;
      }
    }
  }
}

}  // namespace
}  // namespace sluice
