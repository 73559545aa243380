// Exactness inside compression: with the same weights quantised the same way, the same tokens, bit
// for bit, come out of every placement, number of stages, micro-batch and GPU-batch size; and the
// packed files that one split made serve the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/scratch_folder.h"

namespace sluice {
namespace {

using offload::Compression;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

struct Configuration {
  const char* name;
  std::int32_t stages;
  offload::Policy policy;
  std::int32_t gpu_batch_size;
  std::int32_t num_gpu_batches;
  std::int32_t max_tokens;
};

// Each placement of weights meets each number of stages of some batching.
std::vector<Configuration> configurations() {
  return {{"host", 2, policy_of(0, 100, 100, 0, 100, 0), 3, 2, 16},
          {"disk", 1, policy_of(0, 0, 0, 0, 0, 0), 8, 1, 64},
          {"disk_on_three", 3, policy_of(0, 0, 50, 50, 100, 0), 1, 3, 64},
          {"mixed", 2, policy_of(30, 40, 50, 20, 50, 50), 3, 1, 17},
          {"mixed_on_one", 1, policy_of(13, 29, 100, 0, 100, 0), 2, 3, 64},
          {"device_on_four", 4, policy_of(100, 0, 100, 0, 100, 0), 8, 1, 16}};
}

PipelineOptions options_of(const Configuration& configuration, Compression compression) {
  PipelineOptions options;
  options.stages = configuration.stages;
  options.policy = configuration.policy;
  options.policy.compress_weight = compression;
  options.batching.gpu_batch_size = configuration.gpu_batch_size;
  options.batching.num_gpu_batches = configuration.num_gpu_batches;
  options.batching.max_tokens_per_gpu_batch = configuration.max_tokens;
  return options;
}

std::vector<stage::Request> requests_of(const support::ReferenceCases& cases) {
  std::vector<stage::Request> requests;
  for (const support::ReferencePrompt& prompt : cases.prompts) {
    stage::Request& request = requests.emplace_back();
    request.prompt = prompt.prompt;
    request.max_tokens = static_cast<std::int32_t>(prompt.greedy.size());
    request.sampling.logprobs = 1;
  }
  return requests;
}

using Parameters = std::tuple<Compression, std::string>;  // ... of which reference model

std::string name_of(const testing::TestParamInfo<Parameters>& info) {
  const auto& [compression, model] = info.param;
  std::string name = (compression == Compression::eight_bit ? "eight_" : "four_") + model;
  std::ranges::replace(name, '-', '_');
  return name;
}

class CompressionTest : public testing::TestWithParam<Parameters> {
 protected:
  // Answers of all prompts; the packed files of one configuration serve the next.
  std::map<std::uint64_t, ListJob::Answer> answers(const Configuration& configuration,
                                                   bool dummy_weights = false) {
    PipelineOptions options = options_of(configuration, std::get<0>(GetParam()));
    options.packed_directory = packed_.path();
    options.dummy_weights = dummy_weights;
    ListJob job(requests_of(cases_));
    support::run_pipeline(model_, options, job);
    return job.answers;
  }

  // In every configuration the answers of one row after the other, all on the device.
  void expect_one_answer(bool dummy_weights) {
    const auto expected =
        answers({"", 1, policy_of(100, 0, 100, 0, 100, 0), 1, 1, 200}, dummy_weights);
    for (const Configuration& configuration : configurations()) {
      if (model_.config.layers < configuration.stages) continue;
      const auto got = answers(configuration, dummy_weights);
      for (const auto& [id, answer] : expected) {
        ASSERT_EQ(got.at(id).tokens, answer.tokens) << configuration.name << " " << id;
        for (std::size_t k = 0; k < answer.results.size(); ++k) {
          ASSERT_EQ(got.at(id).results[k].logprob, answer.results[k].logprob)
              << configuration.name << ", prompt " << id << ", token " << k;
        }
      }
    }
  }

  support::ScratchFolder packed_;
  support::ReferenceCases cases_ = support::read_reference(std::get<1>(GetParam()));
  launcher::ModelFolder model_ = launcher::open_model(cases_.folder.string());
};

TEST_P(CompressionTest, TokensDoNotDependOnWhereBytesLive) { expect_one_answer(false); }

INSTANTIATE_TEST_SUITE_P(All, CompressionTest,
                         testing::Combine(testing::Values(Compression::eight_bit,
                                                          Compression::four_bit),
                                          testing::ValuesIn(support::reference_names())),
                         name_of);

class MadeUpCompressionTest : public CompressionTest {};

TEST_P(MadeUpCompressionTest, TokensDoNotDependOnWhereBytesLive) { expect_one_answer(true); }

INSTANTIATE_TEST_SUITE_P(Some, MadeUpCompressionTest,
                         testing::Combine(testing::Values(Compression::eight_bit,
                                                          Compression::four_bit),
                                          testing::Values("opt-post-proj")),
                         name_of);

/// Stages may keep their weights differently, also a table that two of them have; and the KV cache
/// may be compressed beside them.
TEST(CompressionPolicyTest, StagesMayCompressDifferently) {
  for (const char* name : {"opt-pre", "opt-odd"}) {
    const support::ReferenceCases cases = support::read_reference(name);
    const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
    const auto tokens = [&](const Configuration& configuration, const offload::Policy& second) {
      PipelineOptions options = options_of(configuration, Compression::four_bit);
      options.policy.cache_dtype = DType::q4;
      options.policies = {options.policy, second};
      options.policies[1].cache_dtype = DType::q4;
      ListJob job(requests_of(cases));
      support::run_pipeline(model, options, job);
      std::map<std::uint64_t, std::vector<std::int32_t>> all;
      for (const auto& [id, answer] : job.answers) all[id] = answer.tokens;
      return all;
    };
    const Configuration one = {"one", 2, policy_of(100, 0, 100, 0, 100, 0), 1, 1, 200};
    const Configuration other = {"other", 2, policy_of(20, 30, 40, 30, 50, 50), 3, 2, 16};
    EXPECT_EQ(tokens(one, policy_of(100, 0, 100, 0, 100, 0)),
              tokens(other, policy_of(0, 50, 0, 50, 0, 0)))
        << name;
  }
}

/// Tied embeddings on one stage: the table is there once.
TEST(CompressionPlanTest, ATiedTableIsOnTheDeviceOnce) {
  const support::ReferenceCases cases = support::read_reference("opt-pre");
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  ASSERT_TRUE(model.config.head.tied);
  const Configuration all = {"device", 1, policy_of(100, 0, 100, 0, 100, 0), 4, 1, 64};
  std::uint64_t planned = 0;
  ListJob job(requests_of(cases));
  const auto run =
      support::run_pipeline(model, options_of(all, Compression::four_bit), job).stages.at(0);
  for (const offload::Reservation& reservation : run.plan) {
    if (reservation.tier == offload::Tier::device && reservation.purpose == "weights") {
      planned += reservation.bytes;
    }
  }
  // hidden 64, ffn 256, vocabulary 512, positions 128 + 2, 4 layers; rows of 64 are 36 bytes.
  constexpr std::uint64_t kLayer = 36 * (4 * 64 + 256) + 144 * 64 + 2 * (9 * 64 + 256);
  EXPECT_EQ(planned, 4 * kLayer + 36 * 512 + 2 * 64 * 130 + 2 * 2 * 64);
  EXPECT_EQ(run.tiers[0].planned, run.tiers[0].high_water);
}

}  // namespace
}  // namespace sluice
