// Several passes of one micro-batch under way, through real stages and every tier: chunk after
// chunk of a prompt sets out before the one before it has come back, and its keys and values are
// fetched while those before are on their way home. The tokens are Hugging Face's all the same.
#include <gtest/gtest.h>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/timed_pipeline.h"

namespace sluice {
namespace {

using support::ListJob;
using support::policy_of;

struct Tiers {
  const char* name;
  offload::Policy policy;
};

std::vector<Tiers> tiers() {
  std::vector<Tiers> list = {{"device", policy_of(100, 0, 100, 0, 100, 0)},
                             {"host", policy_of(0, 100, 0, 100, 0, 100)},
                             {"cpuattention", policy_of(0, 100, 0, 100, 100, 0)},
                             {"disk", policy_of(0, 0, 0, 0, 0, 0)}};
  list[2].policy.cpu_cache_compute = true;
  return list;
}

/// `size` sequences of each micro-batch, prompts cut into chunks of 3 tokens or little more.
void expect_reference_tokens(const Tiers& tiers, std::int32_t stages, std::int32_t size,
                             std::int32_t micro_batches) {
  const support::ReferenceCases cases = support::read_reference("opt-deep");
  const launcher::ModelFolder model = launcher::open_model(cases.folder.string());
  std::vector<stage::Request> requests;
  for (const support::ReferencePrompt& prompt : cases.prompts) {
    stage::Request& request = requests.emplace_back();
    request.prompt = prompt.prompt;
    request.max_tokens = static_cast<std::int32_t>(prompt.greedy.size());
  }
  support::PipelineOptions options;
  options.stages = stages;
  options.policy = tiers.policy;
  options.batching.gpu_batch_size = size;
  options.batching.micro_batches = micro_batches;
  options.batching.max_tokens_per_gpu_batch = 2 + size;
  ListJob job(requests);
  support::run_pipeline(model, options, job);
  for (std::size_t i = 0; i < cases.prompts.size(); ++i) {
    EXPECT_EQ(job.answers[i].tokens, cases.prompts[i].greedy)
        << tiers.name << ", " << stages << " stages, " << cases.prompts[i].id;
  }
}

class PassesTest : public testing::TestWithParam<Tiers> {};

// The only passes under way are chunks of one prompt.
TEST_P(PassesTest, OnePromptAtATime) {
  for (const std::int32_t stages : {1, 4}) expect_reference_tokens(GetParam(), stages, 1, 1);
}

// Chunks of some prompts beside decode steps of others of the same micro-batch.
TEST_P(PassesTest, ChunksBesideDecodeSteps) { expect_reference_tokens(GetParam(), 3, 3, 2); }

INSTANTIATE_TEST_SUITE_P(Tiers, PassesTest, testing::ValuesIn(tiers()),
                         [](const auto& each) { return each.param.name; });

// The pipeline that scripts/bench pipeline times does all that work, and every stage alike.
TEST(TimedPipelineTest, EveryStageComputesEveryPassOnce) {
  using std::chrono::microseconds;
  support::TimedPipelineOptions options;
  options.batching.gpu_batch_size = 2;
  options.batching.max_tokens_per_gpu_batch = 8;
  options.batching.max_sequence_tokens = 24;
  options.layers_per_stage = 2;
  options.link_delay = microseconds(20);
  options.costs.assign(3, {{microseconds(0), microseconds(3)}, {}});
  options.costs[2].head = {microseconds(7), microseconds(0)};
  std::vector<stage::Request> requests(8);
  for (stage::Request& request : requests) {
    request.prompt.assign(20, 3);
    request.max_tokens = 4;
  }
  ListJob job(requests);
  const support::TimedPipelineRun run = support::run_timed_pipeline(options, job);
  for (const auto& [id, answer] : job.answers) EXPECT_EQ(answer.tokens.size(), 4U);
  EXPECT_EQ(run.run.completion_tokens, 32U);
  // 20 tokens of each prompt and 3 of its answer go through each of the layers.
  const auto layers = microseconds(8 * (20 + 3) * 2 * 3);
  EXPECT_EQ(run.clocks[0].busy, layers);
  EXPECT_EQ(run.clocks[1].busy, layers);
  EXPECT_EQ(run.clocks[0].works, 2 * run.passes);
  EXPECT_EQ((run.clocks[2].busy - layers) % microseconds(7), microseconds(0));
  EXPECT_GT(run.clocks[2].busy, layers);
}

}  // namespace
}  // namespace sluice
