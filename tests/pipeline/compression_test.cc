// Exactness inside compression: with the same weights quantised the same way, the same tokens, bit
// for bit, come out of every placement, number of stages, micro-batch and GPU-batch size; and the
// packed files that one split made serve the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/file_bytes.h"
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

class CompressionTest : public testing::TestWithParam<Compression> {};

TEST_P(CompressionTest, TokensDoNotDependOnWhereBytesLive) {
  for (const std::string& name : support::reference_names()) {
    const support::ReferenceCases cases = support::read_reference(name);
    const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
    const support::ScratchFolder packed;
    const auto answers = [&](const Configuration& configuration) {
      PipelineOptions options = options_of(configuration, GetParam());
      options.packed_directory = packed.path();
      ListJob job(requests_of(cases));
      support::run_pipeline(model, options, job);
      return job.answers;
    };
    auto expected = answers({"alone", 1, policy_of(100, 0, 100, 0, 100, 0), 1, 1, 200});
    for (const Configuration& configuration : configurations()) {
      if (model.config.layers < configuration.stages) continue;
      auto got = answers(configuration);
      ASSERT_EQ(got.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(got[i].tokens, expected[i].tokens) << name << " " << configuration.name;
        for (std::size_t k = 0; k < expected[i].results.size(); ++k) {
          ASSERT_EQ(got[i].results[k].logprob, expected[i].results[k].logprob)
              << name << " " << configuration.name << " prompt " << i << " token " << k;
        }
      }
    }
  }
}

TEST_P(CompressionTest, MadeUpWeightsKeepTheLawToo) {
  const support::ReferenceCases cases = support::read_reference("opt-post-proj");
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  const auto tokens = [&](const Configuration& configuration) {
    PipelineOptions options = options_of(configuration, GetParam());
    options.dummy_weights = true;
    ListJob job(requests_of(cases));
    support::run_pipeline(model, options, job);
    std::vector<std::vector<std::int32_t>> all;
    for (const auto& [id, answer] : job.answers) all.push_back(answer.tokens);
    return all;
  };
  const auto expected = tokens({"alone", 1, policy_of(100, 0, 100, 0, 100, 0), 1, 1, 200});
  for (const Configuration& configuration : configurations()) {
    if (model.config.layers < configuration.stages) continue;
    EXPECT_EQ(tokens(configuration), expected) << configuration.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, CompressionTest,
                         testing::Values(Compression::eight_bit, Compression::four_bit),
                         [](const auto& each) {
                           return each.param == Compression::eight_bit ? "eight" : "four";
                         });

/// Tied embeddings on one stage: the table is there once.
TEST(CompressionPlanTest, ATiedTableIsOnTheDeviceOnce) {
  const support::ReferenceCases cases = support::read_reference("opt-pre");
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  ASSERT_FALSE(model.separate_head);
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
