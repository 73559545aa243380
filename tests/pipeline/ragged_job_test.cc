// A job of long and short prompts whose cache would not fit if every place had pages for the
// longest: pages are taken by what a sequence needs, so the job runs in less memory, with the same
// tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/same_answers.h"

namespace sluice {
namespace {

using offload::Tier;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

launcher::ModelFolder made_up_model() {
  launcher::ModelFolder model;
  model.config.layers = 2;
  model.config.hidden = model.config.embedding.width = 32;
  model.config.attention = {4, 4, 8, true, true, 0.35F};
  model.config.mlp.width = 64;
  model.config.vocabulary = 128;
  model.config.max_positions = 2048;
  model.config.positions.offset = 2;
  return model;
}

/// `lengths`: prompt and answer together.
std::vector<stage::Request> requests_of(const std::vector<std::int32_t>& lengths,
                                        std::int32_t answer) {
  std::vector<stage::Request> requests;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    stage::Request& request = requests.emplace_back();
    request.max_tokens = answer;
    for (std::int32_t k = 0; k < lengths[i] - answer; ++k) {
      request.prompt.push_back(
          static_cast<std::int32_t>((i * 31 + 7) * static_cast<std::size_t>(k + 3) % 120));
    }
  }
  return requests;
}

PipelineOptions options_of(const offload::Policy& policy, std::int32_t longest) {
  PipelineOptions options;
  options.stages = 2;
  options.policy = policy;
  options.dummy_weights = true;
  options.batching.gpu_batch_size = 2;
  options.batching.num_gpu_batches = 2;
  options.batching.max_tokens_per_gpu_batch = 256;
  options.batching.max_sequence_tokens = longest;
  options.batching.share_prefixes = false;  // shared_prefix_test.cc
  return options;
}

std::uint64_t cache_bytes(const stage::StageReport& report, Tier tier) {
  std::uint64_t bytes = 0;
  for (const offload::Reservation& entry : report.plan) {
    if (entry.tier == tier && entry.purpose == "KV cache") bytes += entry.bytes;
  }
  return bytes;
}

std::uint64_t all_cache_bytes(const stage::StageReport& report) {
  return cache_bytes(report, Tier::device) + cache_bytes(report, Tier::host) +
         cache_bytes(report, Tier::disk);
}

struct Named {
  const char* name;
  offload::Policy policy;
};
void PrintTo(const Named& named, std::ostream* out) { *out << named.name; }

std::vector<Named> policies() {
  std::vector<Named> list = {{"device", policy_of(100, 0, 100, 0, 100, 0)},
                             {"host", policy_of(100, 0, 0, 100, 100, 0)},
                             {"disk", policy_of(100, 0, 0, 0, 100, 0)},
                             {"mixed", policy_of(100, 0, 34, 33, 100, 0)},
                             {"cpuattention", policy_of(100, 0, 0, 100, 100, 0)}};
  list.back().policy.cpu_cache_compute = true;
  return list;
}

class RaggedJobTest : public testing::TestWithParam<Named> {
 protected:
  void run_in_three_tenths(std::int32_t stages);
};

void RaggedJobTest::run_in_three_tenths(std::int32_t stages) {
  const launcher::ModelFolder model = made_up_model();
  std::vector<std::int32_t> lengths = {2000, 10, 40, 700, 25, 12, 300, 18, 1200, 33, 60, 15};
  for (std::int32_t i = 0; i < 24; ++i) lengths.push_back(10 + 7 * i);
  const std::vector<stage::Request> requests = requests_of(lengths, 6);
  PipelineOptions options = options_of(GetParam().policy, 2000);
  options.stages = stages;
  options.batching.micro_batches = 3;

  ListJob roomy(requests);
  const support::PipelineRun whole = support::run_pipeline(model, options, roomy);
  for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
    const auto t = static_cast<std::size_t>(tier);
    const stage::StageReport& stage = whole.stages[0];
    options.budgets.bytes[t] = stage.tiers[t].planned - cache_bytes(stage, tier) * 7 / 10;
  }
  ListJob tight(requests);
  const support::PipelineRun run = support::run_pipeline(model, options, tight);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_TRUE(tight.answers[i].failure.empty());
    EXPECT_EQ(tight.answers[i].tokens, roomy.answers[i].tokens) << i;
  }
  const auto stored = std::accumulate(lengths.begin(), lengths.end(), std::uint64_t{0}) -
                      lengths.size();  // all but each answer's last token
  for (const stage::StageReport& stage : run.stages) {
    for (const stage::TierReport& tier : stage.tiers) {
      EXPECT_EQ(tier.high_water, tier.planned);
      EXPECT_LE(tier.planned, tier.budget);
    }
    // Rows that step back are stored again.
    EXPECT_EQ(stage.cache_tokens_stored, stored + run.run.recomputed_tokens);
    EXPECT_GE(stage.cache_tokens_taken, whole.stages[0].cache_tokens_taken);
  }
  // The second stage has no embedding: its budget leaves its cache more.
  EXPECT_LT(all_cache_bytes(run.stages[0]), all_cache_bytes(whole.stages[0]) / 2);
}

TEST_P(RaggedJobTest, OneStageRunsInThreeTenthsOfTheCacheWithTheSameTokens) {
  run_in_three_tenths(1);
}

TEST_P(RaggedJobTest, TwoStagesRunInThreeTenthsOfTheCacheWithTheSameTokens) {
  run_in_three_tenths(2);
}

/// Sampled, penalised and scored answers, longer than their prompts.
std::vector<stage::Request> growing_requests() {
  std::vector<stage::Request> requests = requests_of({}, 0);
  for (std::int32_t i = 0; i < 26; ++i) {
    stage::Request request = requests_of({70 + 5 * (i % 7)}, 40 + 3 * (i % 7)).front();
    for (std::int32_t& token : request.prompt) token = (token + 5 * i) % 120;
    request.sampling.seed = static_cast<std::uint64_t>(i);
    request.sampling.temperature = i % 3 == 0 ? 0.0F : 0.9F;
    request.sampling.repetition_penalty = i % 2 == 0 ? 1.0F : 1.2F;
    request.sampling.logprobs = i % 4 - 1;
    request.scores_from = i % 4 == 3 ? 1 : 0;
    requests.push_back(std::move(request));
  }
  return requests;
}

TEST_P(RaggedJobTest, RowsThatStepBackHaveTheSameBits) {
  const launcher::ModelFolder model = made_up_model();
  const std::vector<stage::Request> requests = growing_requests();
  for (const std::int32_t stages : {1, 2}) {
    PipelineOptions options = options_of(GetParam().policy, 100);
    options.stages = stages;
    options.device_samples = stages == 2;
    options.batching.gpu_batch_size = 4;
    options.batching.micro_batches = 3;
    ListJob roomy(requests);
    const support::PipelineRun whole = support::run_pipeline(model, options, roomy);
    EXPECT_EQ(whole.run.stepped_back, 0U);
    for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
      const auto t = static_cast<std::size_t>(tier);
      const stage::StageReport& stage = whole.stages[0];
      options.budgets.bytes[t] = stage.tiers[t].planned - cache_bytes(stage, tier) * 7 / 10;
    }
    ListJob tight(requests);
    const support::PipelineRun run = support::run_pipeline(model, options, tight);
    EXPECT_GT(run.run.stepped_back, 0U);
    EXPECT_GT(run.run.recomputed_tokens, 0U);
    for (const stage::StageReport& stage : run.stages) {
      for (const stage::TierReport& tier : stage.tiers) EXPECT_EQ(tier.high_water, tier.planned);
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_TRUE(tight.answers[i].failure.empty()) << tight.answers[i].failure;
    }
    support::expect_same(tight.answers, roomy.answers);
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, RaggedJobTest, testing::ValuesIn(policies()),
                         [](const auto& each) { return each.param.name; });

TEST(RaggedJob, LengthsFromTwoHundredOnWasteLessThanFourPercent) {
  std::vector<std::int32_t> lengths;
  for (std::int32_t i = 0; i < 20; ++i) lengths.push_back(200 + 13 * i);
  ListJob job(requests_of(lengths, 3));
  const support::PipelineRun run =
      support::run_pipeline(made_up_model(), options_of(policies()[0].policy, 500), job);
  for (const stage::StageReport& stage : run.stages) {
    EXPECT_GT(stage.cache_tokens_stored, 0U);
    EXPECT_LT(static_cast<double>(stage.cache_tokens_taken),
              1.04 * static_cast<double>(stage.cache_tokens_stored));
  }
}

TEST(RaggedJob, TheStageWithTheSmallestCacheDecidesForAll) {
  const launcher::ModelFolder model = made_up_model();
  const std::vector<stage::Request> requests =
      requests_of({10, 90, 55, 100, 20, 33, 71, 98, 14, 12}, 5);
  PipelineOptions options = options_of(policies()[0].policy, 100);
  ListJob roomy(requests);
  const support::PipelineRun whole = support::run_pipeline(model, options, roomy);
  // The second stage alone keeps bytes on the host, where there is room for one long sequence.
  options.policies = {policies()[0].policy, policies()[1].policy};
  ListJob probe(requests);
  const stage::StageReport streamed = support::run_pipeline(model, options, probe).stages[1];
  options.stage_budgets.resize(2);
  options.stage_budgets[1].bytes[1] =
      streamed.tiers[1].planned - cache_bytes(streamed, Tier::host) * 11 / 12;
  ListJob tight(requests);
  const support::PipelineRun run = support::run_pipeline(model, options, tight);
  EXPECT_LE(cache_bytes(run.stages[1], Tier::host), cache_bytes(streamed, Tier::host) / 12);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(tight.answers[i].tokens, roomy.answers[i].tokens) << i;
  }
}

}  // namespace
}  // namespace sluice
