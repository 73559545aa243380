// A model whose layers see a window of keys: the same tokens with the pages in sight as with all of
// them, in every placement, and no byte that is not on the plan.
#include <gtest/gtest.h>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using offload::Tier;
using support::ListJob;
using support::PipelineOptions;
using support::PipelineRun;
using support::policy_of;

launcher::ModelFolder model_with(const std::vector<std::int32_t>& windows) {
  launcher::ModelFolder model =
      launcher::open_model(support::read_reference("opt-deep").folder.string());
  support::set_windows(windows, model);
  return model;
}

/// Of 60 to 95 tokens with their answers: more than a window and a chunk.
std::vector<stage::Request> requests() {
  std::vector<stage::Request> list(11);
  for (std::size_t i = 0; i < list.size(); ++i) {
    for (std::size_t k = 0; k < 50 + 7 * (i % 5); ++k) {
      list[i].prompt.push_back(static_cast<std::int32_t>((i * 37 + 11) * (k + 3) % 500));
    }
    list[i].max_tokens = 10 + static_cast<std::int32_t>(i % 7);
  }
  return list;
}

PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = 3;
  options.batching.num_gpu_batches = 2;
  options.batching.max_tokens_per_gpu_batch = 12;
  options.batching.max_sequence_tokens = 100;
  return options;
}

using Answers = std::vector<std::vector<std::int32_t>>;

Answers run(const launcher::ModelFolder& model, const PipelineOptions& options,
            PipelineRun* report = nullptr) {
  ListJob job(requests());
  PipelineRun made = support::run_pipeline(model, options, job);
  if (report != nullptr) *report = std::move(made);
  Answers answers;
  for (const auto& [id, answer] : job.answers) {
    EXPECT_EQ(answer.failure, "");
    answers.push_back(answer.tokens);
  }
  return answers;
}

/// Of one stage that takes whole prompts: there, windows bound no pages.
Answers expected(const launcher::ModelFolder& model) {
  PipelineOptions options = options_of(1, {});
  options.batching.max_tokens_per_gpu_batch = 300;
  return run(model, options);
}

std::vector<offload::Policy> policies() {
  std::vector<offload::Policy> list = {
      policy_of(100, 0, 100, 0, 100, 0), policy_of(0, 100, 0, 100, 0, 100),
      policy_of(0, 0, 0, 0, 0, 0),       policy_of(30, 40, 40, 30, 50, 50),
      policy_of(30, 40, 40, 30, 50, 50), policy_of(30, 40, 40, 30, 100, 0)};
  list[4].cpu_cache_compute = true;
  list[5].mlp_once = true;
  return list;
}

class WindowTest : public testing::TestWithParam<std::vector<std::int32_t>> {};

TEST_P(WindowTest, TokensAreTheSameWithThePagesInSight) {
  const launcher::ModelFolder model = model_with(GetParam());
  const Answers wanted = expected(model);
  EXPECT_NE(wanted, expected(model_with({}))) << "the windows must matter";
  for (const offload::Policy& policy : policies()) {
    for (const std::int32_t stages : {1, 2, 4}) {
      PipelineRun report;
      EXPECT_EQ(run(model, options_of(stages, policy), &report), wanted)
          << stages << " stages, cache " << policy.cache.device << " " << policy.cache.host;
      for (const stage::StageReport& stage : report.stages) {
        for (std::size_t tier = 0; tier < offload::kTierCount; ++tier) {
          EXPECT_EQ(stage.tiers[tier].high_water, stage.tiers[tier].planned)
              << "stage " << stage.rank << " tier " << tier;
        }
      }
    }
  }
}

/// The device holds the rings of some sequences only: the others wait until these are done.
TEST_P(WindowTest, AlsoWhereTheBudgetHoldsFewSequences) {
  const launcher::ModelFolder model = model_with(GetParam());
  PipelineOptions options = options_of(2, policy_of(0, 100, 100, 0, 0, 100));
  PipelineRun whole;
  const Answers wanted = run(model, options, &whole);
  EXPECT_EQ(wanted, expected(model));
  const auto device = static_cast<std::size_t>(Tier::device);
  const std::uint64_t planned = whole.stages[0].tiers[device].planned;
  options.budgets.bytes[device] = planned - planned / 8;
  PipelineRun bounded;
  EXPECT_EQ(run(model, options, &bounded), wanted);
  EXPECT_LE(bounded.stages[0].tiers[device].high_water, options.budgets.bytes[device]);
  EXPECT_EQ(bounded.stages[0].tiers[device].high_water, bounded.stages[0].tiers[device].planned);
}

INSTANTIATE_TEST_SUITE_P(Windows, WindowTest,
                         testing::Values(std::vector<std::int32_t>{20},
                                         std::vector<std::int32_t>{20, 0},
                                         std::vector<std::int32_t>{0, 33, 7}));

}  // namespace
}  // namespace sluice
