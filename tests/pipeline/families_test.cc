// Every family but OPT (exactness_test.cc): greedy f32 tokens are Hugging Face's, and the same bits
// come out of every placement, number of stages and GPU-batch size, quantised or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/test_name.h"

namespace sluice {
namespace {

using offload::Compression;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

constexpr std::int32_t kLongest = 160;  // tokens of the longest prompt and answer, and some
constexpr std::array kBatchSizes = {1, 3, 8};
constexpr std::int32_t kMostStages = 4;

std::vector<offload::Policy> placements() {
  std::vector<offload::Policy> list = {
      policy_of(100, 0, 100, 0, 100, 0), policy_of(0, 100, 0, 100, 0, 100),
      policy_of(0, 0, 0, 0, 0, 0),       policy_of(30, 40, 50, 20, 50, 50),
      policy_of(30, 40, 30, 50, 50, 50), policy_of(30, 40, 50, 20, 100, 0),
  };
  list[4].cpu_cache_compute = true;
  list[5].mlp_once = true;
  return list;
}

PipelineOptions options_of(const offload::Policy& policy, std::int32_t stages, std::int32_t size) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = size;
  options.batching.num_gpu_batches = 1 + (stages + size) % 3;
  options.batching.max_tokens_per_gpu_batch = size == 3 ? 16 : 64;
  options.batching.max_sequence_tokens = kLongest;
  return options;
}

class FamiliesTest : public testing::TestWithParam<std::string> {
 protected:
  FamiliesTest() {
    for (const support::ReferencePrompt& prompt : cases_.prompts) {
      stage::Request& request = requests_.emplace_back();
      request.prompt = prompt.prompt;
      request.max_tokens = static_cast<std::int32_t>(prompt.greedy.size());
      request.sampling.logprobs = 1;
    }
  }

  std::map<std::uint64_t, ListJob::Answer> answers(PipelineOptions options) {
    options.packed_directory = packed_.path();
    ListJob job(requests_);
    support::run_pipeline(model_, options, job);
    return job.answers;
  }

  void expect_same_bits(const std::map<std::uint64_t, ListJob::Answer>& got,
                        const std::map<std::uint64_t, ListJob::Answer>& expected,
                        const std::string& what) {
    for (const auto& [id, answer] : expected) {
      ASSERT_EQ(got.at(id).tokens, answer.tokens) << what << ", prompt " << id;
      for (std::size_t k = 0; k < answer.results.size(); ++k) {
        ASSERT_EQ(got.at(id).results[k].logprob, answer.results[k].logprob)
            << what << ", prompt " << id << ", token " << k;
      }
    }
  }

  bool may_run(const PipelineOptions& options) const {
    const bool parallel = model_.config.residual != stage::Residual::sequential;
    return options.stages <= model_.config.layers && !(options.policy.mlp_once && parallel);
  }

  support::ScratchFolder packed_;
  support::ReferenceCases cases_ = support::read_reference(GetParam());
  launcher::ModelFolder model_ = launcher::open_model(cases_.folder.string());
  std::vector<stage::Request> requests_;
};

/// Over all families each placement meets each number of stages and each batch size, and each
/// number of stages each batch size.
TEST_P(FamiliesTest, TokensAreHuggingFacesWhereverBytesLive) {
  const std::vector<std::string> names = support::family_names();
  const auto shift = static_cast<std::size_t>(std::ranges::find(names, GetParam()) - names.begin());
  const auto expected = answers(options_of({}, 1, 1));
  for (std::size_t i = 0; i < cases_.prompts.size(); ++i) {
    ASSERT_TRUE(expected.at(i).failure.empty()) << expected.at(i).failure;
    ASSERT_EQ(expected.at(i).tokens, cases_.prompts[i].greedy) << cases_.prompts[i].id;
  }
  const std::vector<offload::Policy> policies = placements();
  for (std::size_t p = 0; p < policies.size(); ++p) {
    const auto stages = 1 + static_cast<std::int32_t>((p + shift) % kMostStages);
    const std::int32_t size = kBatchSizes[(p + shift / kMostStages) % kBatchSizes.size()];
    const PipelineOptions options =
        options_of(policies[p], std::min(stages, model_.config.layers), size);
    if (!may_run(options)) continue;
    expect_same_bits(answers(options), expected, "placement " + std::to_string(p));
  }
}

TEST_P(FamiliesTest, QuantisedTokensDoNotDependOnWhereBytesLive) {
  requests_.resize(3);
  for (stage::Request& request : requests_) request.max_tokens = 8;
  for (const Compression compression : {Compression::eight_bit, Compression::four_bit}) {
    PipelineOptions one = options_of({}, 1, 1);
    one.policy.compress_weight = compression;
    PipelineOptions other = options_of(placements()[3], 3, 3);
    other.policy.compress_weight = compression;
    expect_same_bits(answers(other), answers(one), "quantised");
  }
}

TEST_P(FamiliesTest, TheModelsOwnIdsEndAnAnswer) {
  ASSERT_FALSE(cases_.eos.empty());
  std::vector<stage::Request> requests;
  for (const support::ReferenceCases::Eos& entry : cases_.eos) {
    stage::Request& request = requests.emplace_back();
    request.prompt = entry.prompt;
    request.max_tokens = entry.max_new_tokens;
  }
  ListJob job(requests);
  support::run_pipeline(model_, options_of({}, 2, 3), job);
  for (std::size_t i = 0; i < cases_.eos.size(); ++i) {
    std::vector<std::int32_t> tokens = job.answers[i].tokens;
    const auto end = std::ranges::find_first_of(tokens, model_.eos_ids);
    ASSERT_NE(end, tokens.end());
    tokens.erase(end + 1, tokens.end());
    EXPECT_EQ(tokens, cases_.eos[i].tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FamiliesTest, testing::ValuesIn(support::family_names()),
                         support::test_name);

}  // namespace
}  // namespace sluice
