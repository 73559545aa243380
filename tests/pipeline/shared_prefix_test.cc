// Prompts that begin alike have pages in common: on every stage, in every tier, with the same bits
// as where each has its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/same_answers.h"

namespace sluice {
namespace {

using offload::Tier;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

launcher::ModelFolder model_named(const std::string& name) {
  return launcher::open_model(support::read_reference(name).folder.string());
}

/// Two beginnings of 20 and 35 tokens, and rows that go on behind all or part of them.
std::vector<stage::Request> requests_of(std::int32_t vocabulary) {
  std::vector<stage::Request> requests;
  for (std::int32_t i = 0; i < 22; ++i) {
    stage::Request& request = requests.emplace_back();
    const std::int32_t beginning = i % 3 == 0 ? 20 : 35;
    for (std::int32_t k = 0; k < beginning; ++k) {
      request.prompt.push_back(4 + (beginning * 7 + k * 13) % (vocabulary - 4));
    }
    for (std::int32_t k = 0; k < i % 5; ++k) {
      request.prompt.push_back(4 + (i * 31 + k * 17) % (vocabulary - 4));
    }
    request.max_tokens = 3 + i % 9;
    request.sampling.seed = static_cast<std::uint64_t>(i);
    request.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
    request.sampling.logprobs = i % 4 - 1;
    request.sampling.repetition_penalty = i % 7 == 6 ? 1.3F : 1.0F;
    request.sampling.no_repeat_ngram = i % 7 == 5 ? 2 : 0;
    request.sampling.frequency_penalty = i % 7 == 4 ? 1.5F : 0.0F;
    request.sampling.answer_begin = static_cast<std::int32_t>(request.prompt.size());
    request.scores_from = i % 8 == 7 ? 1 : i % 8 == 3 ? beginning - 1 : 0;
    if (i % 8 == 3 && i % 5 != 0) request.max_tokens = 0;
  }
  return requests;
}

void expect_same(ListJob& a, ListJob& b) {
  ASSERT_EQ(a.answers.size(), b.answers.size());
  for (auto& [id, answer] : a.answers) {
    EXPECT_EQ(answer.failure, "") << id;
    EXPECT_FALSE(answer.results.empty() && answer.prompt_results.empty());
  }
  support::expect_same(a.answers, b.answers);
}

std::vector<offload::Policy> policies() {
  std::vector<offload::Policy> list = {
      policy_of(100, 0, 100, 0, 100, 0), policy_of(0, 100, 0, 100, 0, 100),
      policy_of(0, 0, 0, 0, 0, 0),       policy_of(30, 40, 50, 20, 50, 50),
      policy_of(30, 40, 50, 20, 50, 50), policy_of(100, 0, 34, 33, 100, 0)};
  list[4].cpu_cache_compute = true;
  list[5].cache_dtype = DType::q4;
  return list;
}

PipelineOptions options_of(const offload::Policy& policy, std::int32_t stages) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = 4;
  options.batching.num_gpu_batches = 2;
  options.batching.max_tokens_per_gpu_batch = 24;
  options.batching.max_sequence_tokens = 52;
  return options;
}

support::PipelineRun run(const launcher::ModelFolder& model, PipelineOptions options, bool shares,
                         ListJob& job) {
  options.batching.share_prefixes = shares;
  support::PipelineRun run = support::run_pipeline(model, options, job);
  for (const stage::StageReport& stage : run.stages) {
    for (const stage::TierReport& tier : stage.tiers) EXPECT_EQ(tier.high_water, tier.planned);
  }
  return run;
}

class SharedPrefixTest : public testing::TestWithParam<std::size_t> {};

TEST_P(SharedPrefixTest, EveryRowHasTheBitsThatItHasAlone) {
  const launcher::ModelFolder model = model_named("opt-pre");
  const std::vector<stage::Request> requests = requests_of(model.config.vocabulary);
  const offload::Policy policy = policies()[GetParam()];
  ListJob alone(requests);
  EXPECT_EQ(run(model, options_of(policy, 1), false, alone).run.shared_prefix_tokens, 0U);
  for (const std::int32_t stages : {1, 2, 3}) {
    for (const bool overlap : {true, false}) {
      if (!overlap && stages != 2) continue;
      PipelineOptions options = options_of(policy, stages);
      options.policy.overlap = overlap;
      options.device_samples = stages == 3;
      ListJob sharing(requests);
      const support::PipelineRun shared = run(model, options, true, sharing);
      EXPECT_GT(shared.run.shared_prefix_tokens, 100U) << stages;
      expect_same(sharing, alone);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, SharedPrefixTest,
                         testing::Range(std::size_t{0}, std::size_t{6}));

/// Prompts of two pages and three tokens: these, but for the last one, are copied out of the page
/// of the row that computes them.
TEST(SharedPrefix, TheBeginningOfAPageIsCopiedInEveryTier) {
  const launcher::ModelFolder model = model_named("opt-pre");
  std::vector<stage::Request> requests(7);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (std::int32_t k = 0; k < 35; ++k) {
      requests[i].prompt.push_back(4 + k * 13 % (model.config.vocabulary - 4));
    }
    requests[i].max_tokens = i == 0 ? 12 : 3;
    requests[i].sampling.temperature = 1.0F;
    requests[i].sampling.seed = i;
    requests[i].sampling.answer_begin = 35;
    requests[i].sampling.repetition_penalty = i % 2 == 0 ? 1.0F : 1.4F;  // of tokens copied, too
  }
  std::vector<offload::Policy> tiers = {policies()[0], policies()[1], policies()[1],
                                        policies()[2], policies()[0], policies()[1]};
  tiers[2].cpu_cache_compute = true;
  tiers[4].cache_dtype = DType::q4;
  tiers[5].cache_dtype = DType::q8;
  for (const offload::Policy& policy : tiers) {
    ListJob alone(requests);
    run(model, options_of(policy, 1), false, alone);
    for (const std::int32_t stages : {1, 2}) {
      ListJob sharing(requests);
      const support::PipelineRun shared = run(model, options_of(policy, stages), true, sharing);
      EXPECT_EQ(shared.run.shared_prefix_tokens, 6U * 34U);
      expect_same(sharing, alone);
    }
  }
}

TEST(SharedPrefix, StagesMayKeepTheirPagesInOtherTiers) {
  const launcher::ModelFolder model = model_named("opt-pre");
  const std::vector<stage::Request> requests = requests_of(model.config.vocabulary);
  ListJob alone(requests);
  run(model, options_of(policies()[0], 1), false, alone);
  PipelineOptions options = options_of(policies()[0], 3);
  options.policies = {policies()[3], policies()[1], policies()[0]};
  ListJob sharing(requests);
  EXPECT_GT(run(model, options, true, sharing).run.shared_prefix_tokens, 0U);
  expect_same(sharing, alone);
}

TEST(SharedPrefix, AlsoInAllReferenceModels) {
  for (const std::vector<std::string>& names :
       {support::reference_names(), support::family_names()}) {
    for (const std::string& name : names) {
      const launcher::ModelFolder model = model_named(name);
      const std::vector<stage::Request> requests =
          requests_of(std::min(model.config.vocabulary, 200));
      ListJob alone(requests);
      ListJob sharing(requests);
      run(model, options_of(policies()[3], 1), false, alone);
      const std::int32_t stages = std::min(model.config.layers, 2);
      const support::PipelineRun shared =
          run(model, options_of(policies()[3], stages), true, sharing);
      const auto window = [&](std::int32_t layer) {
        const std::int32_t of_layer = model.config.attention.window_of(layer);
        return of_layer > 0 && of_layer < 52;
      };
      bool has_window = false;
      for (std::int32_t i = 0; i < model.config.layers; ++i) has_window = has_window || window(i);
      EXPECT_EQ(shared.run.shared_prefix_tokens > 0, !has_window) << name;
      expect_same(sharing, alone);
    }
  }
}

std::uint64_t cache_bytes(const stage::StageReport& stage, std::size_t tier) {
  std::uint64_t bytes = 0;
  for (const offload::Reservation& entry : stage.plan) {
    const bool is_cache = entry.purpose == "KV cache" && entry.tier == static_cast<Tier>(tier);
    bytes += is_cache ? entry.bytes : 0;
  }
  return bytes;
}

/// Little room: prefixes give way, and rows step back.
TEST(SharedPrefix, AlsoWherePagesAreFew) {
  const launcher::ModelFolder model = model_named("opt-pre");
  std::vector<stage::Request> requests = requests_of(model.config.vocabulary);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].max_tokens = 12;
    requests[i].scores_from = 0;
    if (i % 2 == 0) requests[i].prompt[0] = 5 + static_cast<std::int32_t>(i);
  }
  const std::pair<std::size_t, Tier> places[] = {
      {0, Tier::device}, {1, Tier::host}, {2, Tier::disk}, {3, Tier::device}};
  for (const auto& [policy, tier] : places) {
    PipelineOptions options = options_of(policies()[policy], 2);
    ListJob alone(requests);
    run(model, options, false, alone);
    ListJob with_room(requests);
    for (const stage::StageReport& stage : run(model, options, true, with_room).stages) {
      offload::Budgets& budgets = options.stage_budgets.emplace_back();
      const auto i = static_cast<std::size_t>(tier);
      budgets.bytes[i] = stage.tiers[i].planned - cache_bytes(stage, i) * 3 / 4;
    }
    ListJob sharing(requests);
    const support::PipelineRun shared = run(model, options, true, sharing);
    EXPECT_GT(shared.run.shared_prefix_tokens, 0U);
    expect_same(sharing, alone);
  }
}

}  // namespace
}  // namespace sluice
