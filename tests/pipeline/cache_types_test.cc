// Exactness inside a type of cache: with keys and values kept in the same type, 8 and 4 bits
// included, the same tokens come out of every placement, number of stages, batching and budget.
#include <gtest/gtest.h>

#include <utility>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using offload::Tier;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

std::vector<stage::Request> requests_of(const support::ReferenceCases& cases) {
  std::vector<stage::Request> requests;
  for (const support::ReferencePrompt& prompt : cases.prompts) {
    stage::Request& request = requests.emplace_back();
    request.prompt = prompt.prompt;
    request.max_tokens = static_cast<std::int32_t>(prompt.greedy.size());
  }
  return requests;
}

struct Placement {
  const char* name;
  double device;
  double host;
  bool cpu_cache_compute;
};
constexpr Placement kPlacements[] = {{"device", 100, 0, false},  {"host", 0, 100, false},
                                     {"attended", 0, 100, true}, {"disk", 0, 0, false},
                                     {"mixed", 40, 30, false},   {"mixed attended", 30, 40, true}};

class CacheTypeTest : public testing::TestWithParam<DType> {
 protected:
  PipelineOptions options(const Placement& placement, std::int32_t stages,
                          std::int32_t gpu_batch_size) const {
    PipelineOptions options;
    options.stages = stages;
    options.policy = policy_of(100, 0, placement.device, placement.host, 100, 0);
    options.policy.cpu_cache_compute = placement.cpu_cache_compute;
    options.policy.cache_dtype = GetParam();
    options.batching.gpu_batch_size = gpu_batch_size;
    options.batching.num_gpu_batches = 1 + stages % 2;
    options.batching.max_tokens_per_gpu_batch = gpu_batch_size == 3 ? 16 : 64;
    return options;
  }
  const support::ReferenceCases cases_ = support::read_reference("opt-deep");
  const launcher::ModelFolder model_ = launcher::open_model(cases_.folder.string());
};

TEST_P(CacheTypeTest, TokensAreTheSameWhereverTheCacheLives) {
  ListJob first(requests_of(cases_));
  support::run_pipeline(model_, options(kPlacements[0], 1, 8), first);
  for (const Placement& placement : kPlacements) {
    for (const auto& [stages, size] : {std::pair{1, 3}, std::pair{2, 1}}) {
      ListJob job(requests_of(cases_));
      const support::PipelineRun run =
          support::run_pipeline(model_, options(placement, stages, size), job);
      for (std::size_t i = 0; i < cases_.prompts.size(); ++i) {
        EXPECT_EQ(job.answers[i].tokens, first.answers[i].tokens)
            << placement.name << ", " << stages << " stages of " << size << ", prompt " << i;
      }
      for (const stage::StageReport& stage : run.stages) {
        for (const stage::TierReport& tier : stage.tiers) {
          EXPECT_EQ(tier.high_water, tier.planned) << placement.name;
        }
      }
    }
  }
}

TEST_P(CacheTypeTest, ATightBudgetChangesNoToken) {
  for (const Placement& placement : kPlacements) {
    PipelineOptions tight = options(placement, 1, 8);
    ListJob roomy_job(requests_of(cases_));
    const support::PipelineRun roomy = support::run_pipeline(model_, tight, roomy_job);
    for (const offload::Reservation& entry : roomy.stages[0].plan) {
      std::uint64_t& budget = tight.budgets.bytes[static_cast<std::size_t>(entry.tier)];
      budget += entry.purpose == "KV cache" ? entry.bytes * 6 / 10 : entry.bytes;
    }
    ListJob job(requests_of(cases_));
    const support::PipelineRun run = support::run_pipeline(model_, tight, job);
    for (std::size_t i = 0; i < cases_.prompts.size(); ++i) {
      EXPECT_EQ(job.answers[i].tokens, roomy_job.answers[i].tokens) << placement.name;
    }
    for (const stage::TierReport& tier : run.stages[0].tiers) {
      EXPECT_EQ(tier.high_water, tier.planned);
      EXPECT_LE(tier.planned, tier.budget);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CacheTypeTest, testing::Values(DType::f16, DType::q8, DType::q4),
                         [](const auto& each) { return std::string(name_of(each.param)); });

}  // namespace
}  // namespace sluice
