// The third and fourth laws: no tier beyond its budget, the plan is the high-water mark, and
// nothing is allocated once the pipeline is warm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "tests/support/allocation_count.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using offload::Tier;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

launcher::ModelFolder model_named(const std::string& name) {
  return launcher::open_model(support::read_reference(name).folder.string());
}

std::vector<stage::Request> requests_of(int count, std::int32_t prompt, std::int32_t tokens) {
  std::vector<stage::Request> requests(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (std::int32_t k = 0; k < prompt; ++k) {
      requests[i].prompt.push_back(static_cast<std::int32_t>((i * 37 + 11) * (k + 3) % 300));
    }
    requests[i].max_tokens = tokens;
  }
  return requests;
}

std::vector<offload::Policy> policies() {
  std::vector<offload::Policy> list = {
      policy_of(100, 0, 100, 0, 100, 0), policy_of(0, 100, 0, 100, 0, 100),
      policy_of(0, 0, 0, 0, 0, 0),       policy_of(30, 40, 50, 20, 50, 50),
      policy_of(30, 40, 50, 20, 50, 50), policy_of(30, 40, 50, 20, 100, 0)};
  list[4].cpu_cache_compute = true;
  list[5].mlp_once = true;
  return list;
}

TEST(MemoryTest, PlanIsTheHighWaterMarkInEveryTier) {
  for (const char* name : {"opt-pre", "opt-post-proj", "opt-odd", "mixtral",
                           "qwen2-moe-sparse-step", "granitemoe", "dbrx"}) {
    for (const offload::Policy& policy : policies()) {
      PipelineOptions options;
      options.device_samples = name == std::string("opt-odd");
      options.stages = 3;
      options.policy = policy;
      options.batching.gpu_batch_size = 3;
      options.batching.num_gpu_batches = 2;
      options.batching.max_tokens_per_gpu_batch = 20;
      ListJob job(requests_of(10, 9, 5));
      const support::PipelineRun run = support::run_pipeline(model_named(name), options, job);
      for (const stage::StageReport& stage : run.stages) {
        for (std::size_t tier = 0; tier < offload::kTierCount; ++tier) {
          EXPECT_EQ(stage.tiers[tier].high_water, stage.tiers[tier].planned)
              << name << " stage " << stage.rank << " tier " << tier;
        }
      }
    }
  }
}

TEST(MemoryTest, ABudgetOfExactlyThePlanIsEnoughAndOneByteLessIsRefused) {
  PipelineOptions options;
  options.policy = policy_of(30, 40, 50, 20, 50, 50);
  options.batching.gpu_batch_size = 3;  // a sequence in each tier: its pool cannot shrink
  const launcher::ModelFolder model = model_named("opt-deep");
  ListJob first(requests_of(4, 9, 5));
  const stage::StageReport report = support::run_pipeline(model, options, first).stages[0];
  for (const Tier tier : {Tier::device, Tier::host}) {
    const auto i = static_cast<std::size_t>(tier);
    options.budgets = {};
    options.budgets.bytes[i] = report.tiers[i].planned;
    ListJob enough(requests_of(4, 9, 5));
    EXPECT_NO_THROW(support::run_pipeline(model, options, enough));
    options.budgets.bytes[i] -= 1;
    ListJob too_small(requests_of(4, 9, 5));
    try {
      support::run_pipeline(model, options, too_small);
      FAIL() << "a budget one byte too small was accepted";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(name_of(tier)));
      EXPECT_THAT(error.what(), testing::HasSubstr("stages[0].budget"));
    }
    EXPECT_TRUE(too_small.answers.empty());
  }
}

// What the host tells a device in every pass is pinned also where --pin-weight is 0: a copy from
// other memory stops the stream.
TEST(MemoryTest, OfUnpinnedMemoryNothingIsCopiedWhereTheDeviceComputes) {
  PipelineOptions options;
  options.device_samples = true;
  options.policy = policy_of(50, 50, 100, 0, 100, 0);
  options.policy.pin_weight = false;
  options.batching.gpu_batch_size = 3;
  options.batching.num_gpu_batches = 2;
  std::vector<stage::Request> requests = requests_of(8, 9, 5);
  for (stage::Request& request : requests) request.sampling.repetition_penalty = 1.1F;
  ListJob job(std::move(requests));
  const support::PipelineRun run = support::run_pipeline(model_named("opt-pre"), options, job);
  EXPECT_EQ(job.answers.size(), 8U);
  EXPECT_EQ(run.pageable_copies, 0);
  // Activations in the host are another matter: they are what the user did not want pinned.
  options.policy = policy_of(100, 0, 100, 0, 0, 100);
  options.policy.pin_weight = false;
  ListJob again(requests_of(8, 9, 5));
  EXPECT_GT(support::run_pipeline(model_named("opt-pre"), options, again).pageable_copies, 0);
}

/// Counts what is allocated between two of its tokens.
class CountingJob : public stage::Job {
 public:
  CountingJob(std::int32_t rows, std::int32_t warm, std::int32_t tokens)
      : rows_(rows), warm_(warm), tokens_(tokens), made_(static_cast<std::size_t>(rows), 0) {}

  stage::Next next(stage::Request& request) override {
    if (given_ == rows_) return stage::Next::no_more;
    request.id = static_cast<std::uint64_t>(given_);
    request.prompt.assign(7, 5 + given_);
    request.sampling.repetition_penalty = given_ % 2 == 0 ? 1.1F : 1.0F;
    request.sampling.logprobs = given_ % 3;
    request.max_tokens = tokens_;
    ++given_;
    return stage::Next::request;
  }
  void on_prompt_token(std::uint64_t, std::int32_t, const stage::TokenResult&) override {}
  bool on_token(std::uint64_t id, const stage::TokenResult&) override {
    const std::int32_t made = ++made_[id];
    if (id == 0 && made == warm_) begin = support::allocation_count();
    if (id == 0 && made == tokens_ - 1) end = support::allocation_count();
    return made == tokens_;
  }
  void on_prompt_done(std::uint64_t) override {}
  void on_failed(std::uint64_t, const std::string&) override { ADD_FAILURE() << "a row failed"; }

  std::int64_t begin = -1;
  std::int64_t end = -2;

 private:
  std::int32_t rows_;
  std::int32_t warm_;
  std::int32_t tokens_;
  std::int32_t given_ = 0;
  std::vector<std::int32_t> made_;
};

TEST(MemoryTest, NothingIsAllocatedOnceThePipelineIsWarm) {
  for (const auto& [name, stages] :
       {std::pair{"opt-pre", 1}, {"opt-pre", 3}, {"qwen2-moe-sparse-step", 2}}) {
    const launcher::ModelFolder model = model_named(name);
    for (std::size_t i = 0; i < policies().size(); ++i) {
      PipelineOptions options;
      options.stages = stages;
      options.policy = policies()[i];
      options.device_samples = i % 2 == 0;
      options.threads = 2;
      options.batching.gpu_batch_size = 2;
      options.batching.num_gpu_batches = 2;
      CountingJob job(4 * (stages + 1), 24, 60);
      support::run_pipeline(model, options, job);
      EXPECT_EQ(job.end - job.begin, 0) << name << ", " << stages << " stages, policy " << i;
    }
  }
}

}  // namespace
}  // namespace sluice
