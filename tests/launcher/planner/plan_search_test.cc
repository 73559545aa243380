#include "launcher/planner/plan_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "comm/device_channel.h"
#include "kernels/device/error.h"
#include "launcher/config/config_yaml.h"
#include "launcher/planner/paper_run.h"
#include "launcher/planner/plan_config.h"
#include "launcher/planner/plan_prediction.h"
#include "launcher/planner/stage_places.h"
#include "offload/weights/weight_source.h"
#include "plan_cases.h"
#include "stage/layer_split.h"

namespace sluice::launcher {
namespace {

using offload::Tier;
using paper::Chance;
using paper::PlanCase;
using testing::AllOf;
using testing::HasSubstr;

/// What the stages of a run would reserve, by their own arithmetic.
std::vector<offload::MemoryPlan> reserved(const PlanRequest& request, const Plan& plan) {
  StagePapers papers(request);
  std::vector<offload::MemoryPlan> plans;
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const offload::Policy& policy = plan.stages[s].config.policy;
    stage::StageLayout layout =
        papers.layout(static_cast<std::int32_t>(s), plan.stages[s].config, plan.batching);
    ShapeSource source(*request.model, request.made_up_weights, policy.compress_weight);
    const auto placement =
        offload::place_weights(stage::layer_specs(layout), policy.weights, source);
    stage::fit_cache(layout, placement);
    plans.push_back(stage::plan_memory(layout, placement));
  }
  return plans;
}

/// Every stage fits what it may have, and the stages of a host fit that host.
void expect_fits(const PlanRequest& request, const Plan& plan) {
  const Machine& machine = *request.machine;
  const bool is_cpu = machine.device.kind == "cpu";
  const std::vector<offload::MemoryPlan> plans = reserved(request, plan);
  const std::int32_t per_host =
      stages_on_host(machine, static_cast<std::int32_t>(plan.stages.size()));
  std::map<std::int32_t, std::uint64_t> hosts, disks;
  std::int32_t layers = 0;
  for (std::size_t s = 0; s < plans.size(); ++s) {
    const stage::StageConfig& config = plan.stages[s].config;
    EXPECT_EQ(config.first_layer, layers);
    EXPECT_EQ(config.policy.problems(), "");
    layers += config.layers;
    plans[s].check(config.budgets, "stage");
    for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
      EXPECT_EQ(plans[s].total(tier), plan.stages[s].memory.total(tier))
          << "stage " << s << ", " << offload::name_of(tier);
    }
    if (!is_cpu) {
      EXPECT_LE(plans[s].total(Tier::device), machine.device.memory);
    }
    const std::int32_t host = static_cast<std::int32_t>(s) / per_host;
    hosts[host] += plans[s].total(Tier::host) + (is_cpu ? plans[s].total(Tier::device) : 0);
    disks[host] += plans[s].total(Tier::disk);
  }
  EXPECT_EQ(layers, request.decoder().layers);
  for (const auto& [host, bytes] : hosts) EXPECT_LE(bytes, machine.host.memory);
  for (const auto& [host, bytes] : disks) {
    if (machine.disk.free_bytes > 0) {
      EXPECT_LE(bytes, machine.disk.free_bytes);
    }
  }
}

/// A thousand cases, in ten parts: a test should not take a minute.
class RandomPlans : public testing::TestWithParam<unsigned> {};
constexpr unsigned kCasesOfPart = 100;

TEST_P(RandomPlans, NeverFailForLackOfMemory) {
  unsigned planned = 0, refused = 0;
  const unsigned first = GetParam() * kCasesOfPart + 1;
  for (unsigned seed = first; seed < first + kCasesOfPart; ++seed) {
    SCOPED_TRACE(seed);
    Chance chance(seed);
    PlanCase made;
    paper::random_case(chance, made);
    SearchOptions few;
    few.built = 2;
    few.tasks = few.most_tasks = 0;
    try {
      const FoundPlans found = search_plans(made.asked(), few);
      for (const Plan& plan : found.plans) expect_fits(made.request, plan);
      ++planned;
    } catch (const CapacityError& refusal) {
      EXPECT_THAT(refusal.what(), HasSubstr("missing"));
      ++refused;
    }
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_EQ(planned + refused, kCasesOfPart);
  EXPECT_GT(planned, 30U);  // else this would show nothing
  EXPECT_GT(refused, 10U);
}
INSTANTIATE_TEST_SUITE_P(Parts, RandomPlans, testing::Range(0U, 10U));

/// In all layers, behind plain ones, or in every other layer.
void give_experts(Chance& chance, stage::DecoderConfig& model) {
  model.mlp.gated = true;
  model.mlp.bias = false;
  model.mixture.experts = static_cast<std::int32_t>(chance.number(2, 16));
  model.mixture.width = static_cast<std::int32_t>(32 * chance.number(1, 4));
  model.mixture.router.chosen = static_cast<std::int32_t>(chance.number(1, model.mixture.experts));
  if (chance.coin()) model.mixture.shared_width = 96;
  const std::int64_t form = chance.number(0, 2);
  for (std::int32_t layer = 0; form > 0 && layer < model.layers; ++layer) {
    model.mixture.layers.push_back((form == 1 ? layer >= 2 : layer % 2 == 1) ? 1 : 0);
  }
}

TEST(MixturePlans, NeverFailForLackOfMemory) {
  unsigned planned = 0;
  constexpr unsigned kCases = 60;
  for (unsigned seed = 1; seed <= kCases; ++seed) {
    SCOPED_TRACE(seed);
    Chance chance(seed);
    PlanCase made;
    paper::random_case(chance, made);
    give_experts(chance, made.model.folder.config);
    SearchOptions few;
    few.built = 2;
    few.tasks = few.most_tasks = 0;
    try {
      const FoundPlans found = search_plans(made.asked(), few);
      for (const Plan& plan : found.plans) expect_fits(made.request, plan);
      ++planned;
    } catch (const CapacityError& refusal) {
      EXPECT_THAT(refusal.what(), HasSubstr("missing"));
    }
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(planned, kCases / 3);  // else this would show nothing
}

/// Small enough to try every coarse policy.
void small_case(unsigned seed, PlanCase& made) {
  Chance chance(seed);
  made.model.folder.config = paper::model(static_cast<std::int32_t>(chance.number(2, 4)), 256, 512);
  Machine& machine = made.machine;
  machine.hosts = 1;
  machine.host.memory = std::uint64_t{8} << 30U;
  machine.device.memory =
      (std::uint64_t{1} << 30U) + static_cast<std::uint64_t>(chance.size(2e6, 4e7));
  machine.device.products[DType::f32] = paper::flat(chance.size(2e9, 5e10));
  machine.host_to_device.alone = machine.device_to_host.alone =
      paper::figure(chance.size(1e8, 4e9));
  machine.host.decode_attention[DType::f32] = paper::figure(chance.size(5e7, 2e9));
  machine.disk.read = machine.disk.write = paper::flat(chance.size(5e7, 1e9));
  made.request.job = PlannedJob::alike(32, 8, 16);
}

/// Tokens per second of the best policy of `shares`, alike in all stages.
double best_shares(PlanBuilder& builder, const PlanChoice& choice,
                   const std::vector<offload::Shares>& shares) {
  const PlanRequest& request = builder.papers().request();
  std::vector<stage::StageConfig> stages = request.stages;
  stage::split_layers(stages, request.decoder().layers, stage::decode_weights(request.decoder()));
  double best = 0;
  for (const offload::Shares& weights : shares) {
    for (const offload::Shares& cache : shares) {
      for (std::size_t s = 0; s < stages.size(); ++s) {
        stages[s].policy = builder.policy_of(static_cast<std::int32_t>(s), choice);
        stages[s].policy.weights = weights;
        stages[s].policy.cache = cache;
      }
      auto plan = builder.build(choice, stages);
      if (!plan) continue;
      predict(builder.papers(), *plan);
      best = std::max(best, plan->tokens_per_second());
    }
  }
  return best;
}

/// The best of all policies of `shares`, with batches of powers of two and so many micro-batches.
double best_of_all(PlanCase& made, const std::vector<offload::Shares>& shares,
                   const std::vector<std::int32_t>& micro_batches) {
  PlanBuilder builder(made.asked());
  double best = 0;
  for (const std::int32_t size : {1, 2, 4, 8, 16}) {
    for (std::int32_t batches = 1; size * batches <= 16; batches *= 2) {
      for (const std::int32_t micro : micro_batches) {
        if (micro > 1 && size * batches * micro > 24) continue;  // there are 16 sequences
        for (const bool on_host : {false, true}) {
          PlanChoice choice;
          choice.batching.gpu_batch_size = size;
          choice.batching.num_gpu_batches = batches;
          choice.batching.micro_batches = micro;
          choice.batching.max_tokens_per_gpu_batch = 32 * size;
          choice.cpu_cache_compute = on_host;
          best = std::max(best, best_shares(builder, choice, shares));
        }
      }
    }
  }
  return best;
}

TEST(PlanSearch, FindsPlansAsFastAsTheBestOfAll) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    PlanCase made;
    small_case(seed, made);
    const double all = best_of_all(
        made, {{100, 0, 0}, {50, 50, 0}, {0, 100, 0}, {50, 0, 50}, {0, 50, 50}, {0, 0, 100}}, {1});
    const Plan plan = search_plans(made.asked()).plans.front();
    EXPECT_TRUE(plan.simulated);
    EXPECT_GE(plan.tokens_per_second(), 0.98 * all);
  }
}

TEST(PlanSearch, FindsMicroBatchesAsFastAsTheBestOfAll) {
  for (unsigned seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    PlanCase made;
    small_case(seed, made);
    made.machine.hosts = 2;
    made.machine.device.memory += comm::kNcclDeviceBytes;
    made.request.stages.resize(2);
    made.machine.between_hosts = {paper::figure(1e8), paper::figure(seed % 2 == 0 ? 1e-2 : 1e-5)};
    const double all = best_of_all(made, {{100, 0, 0}, {50, 50, 0}, {0, 100, 0}}, {1, 2, 3, 4, 6});
    EXPECT_GE(search_plans(made.asked()).plans.front().tokens_per_second(), 0.98 * all);
  }
}

TEST(PlanSearch, TakesTwiceAsManyMicroBatchesAsStagesWhereThatPays) {
  PlanCase made;
  made.machine.hosts = 2;
  made.request.stages.resize(2);
  made.model.folder.config = paper::model(4, 256, 512);
  made.request.job = PlannedJob::alike(16, 16, 8);
  made.request.decided.gpu_batch_size = made.request.decided.num_gpu_batches = true;
  made.request.batching.gpu_batch_size = 2;
  // All eight sequences at once; three micro-batches would leave two sequences for a second turn.
  EXPECT_EQ(search_plans(made.asked()).plans.front().batching.micro_batches, 4);
  made.request.decided.micro_batches = true;
  made.request.batching.micro_batches = 3;
  EXPECT_EQ(search_plans(made.asked()).plans.front().batching.micro_batches, 3);
}

TEST(PlanSearch, KeepsWhatIsDecided) {
  PlanCase made;
  small_case(3, made);
  made.request.decided.gpu_batch_size = made.request.decided.weights = true;
  made.request.batching.gpu_batch_size = 3;
  made.request.stages.front().policy.weights = {0, 100, 0};
  const Plan plan = search_plans(made.asked()).plans.front();
  EXPECT_EQ(plan.batching.gpu_batch_size, 3);
  EXPECT_EQ(plan.stages.front().config.policy.weights.host, 100);
}

TEST(PlanSearch, SaysHowManyBytesAreMissing) {
  PlanCase made;
  small_case(1, made);
  made.machine.host.memory = 1 << 20;
  made.request.stages.front().budgets.bytes = {1 << 20, 1 << 20, 1 << 20};
  try {
    search_plans(made.asked());
    FAIL() << "a MiB cannot be enough";
  } catch (const CapacityError& refusal) {
    EXPECT_THAT(refusal.what(),
                AllOf(HasSubstr("missing"), HasSubstr("bytes"), HasSubstr("stage 0")));
  }
}

TEST(PlanSearch, KeepsToALimitOfLatency) {
  PlanCase made;
  small_case(2, made);
  made.request.job = PlannedJob::alike(32, 8, 64);
  const FoundPlans any = search_plans(made.asked());
  ASSERT_GT(any.curve.size(), 1U);
  made.request.latency_limit = (any.curve.front().latency + any.plans.front().seconds.latency) / 2;
  const Plan quick = search_plans(made.asked()).plans.front();
  EXPECT_LE(quick.seconds.latency, made.request.latency_limit);
  EXPECT_LE(quick.tokens_per_second(), any.plans.front().tokens_per_second() * 1.001);
}

TEST(PlanSearch, RefusesALimitOfLatencyThatNoPlanKeeps) {
  PlanCase made;
  small_case(2, made);
  made.request.latency_limit = 1e-6;
  try {
    search_plans(made.asked());
    FAIL() << "a microsecond cannot be enough";
  } catch (const CapacityError& refusal) {
    EXPECT_THAT(refusal.what(), HasSubstr("--latency-limit 1e-06"));
  }
}

TEST(PlanSearch, BatchesPromptsThatWantNoAnswer) {
  PlanCase made;
  small_case(2, made);
  made.request.job = PlannedJob::alike(32, 0, 64);
  const Plan plan = search_plans(made.asked()).plans.front();
  made.request.decided.gpu_batch_size = made.request.decided.num_gpu_batches = true;
  made.request.batching.gpu_batch_size = made.request.batching.num_gpu_batches = 1;
  const Plan one_by_one = search_plans(made.asked()).plans.front();
  EXPECT_GT(plan.slots(), 1);
  EXPECT_LT(plan.seconds.total, 0.9 * one_by_one.seconds.total);
}

TEST(PlanSearch, AJobHasTheRowsThatAreLeft) {
  JobScan scan;
  scan.rows = 10;
  scan.answered = 7;
  scan.longest_sequence = scan.usual_sequence = 20;
  scan.looked_at.assign(10, {12, 8});
  const PlannedJob left = job_of({}, scan);
  EXPECT_EQ(left.rows, 3);
  EXPECT_EQ(left.requests.size(), 3U);
  scan.looked_at.resize(2);
  scan.answered = 0;
  EXPECT_EQ(job_of({}, scan).requests.size(), 10U);
  // Of an empty file and of a pipe nothing is known.
  EXPECT_THROW(job_of({}, JobScan()), ConfigError);
}

TEST(PlanSearch, GivesUnevenDevicesUnevenLayers) {
  PlanCase made;
  made.model.folder.config = paper::model(12, 256, 512);
  made.machine.host_to_device.alone = paper::figure(1e8);
  made.request.stages.resize(3);
  made.request.stages[1].budgets.bytes[0] = 300 << 20;
  for (const int s : {0, 2})
    made.request.stages[static_cast<std::size_t>(s)].budgets.bytes[0] = 248 << 20;
  made.request.job = PlannedJob::alike(16, 16, 8);
  const Plan plan = search_plans(made.asked()).plans.front();
  EXPECT_GT(plan.stages[1].config.layers, plan.stages[0].config.layers);
  EXPECT_GT(plan.stages[1].config.layers, plan.stages[2].config.layers);
}

TEST(PlanSearch, APlanReadBackReservesWhatItPromised) {
  int planned = 0;
  for (unsigned seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Chance chance(seed);
    PlanCase made;
    paper::random_case(chance, made);
    SearchOptions few;
    few.built = 1;
    few.tasks = few.most_tasks = 0;
    FoundPlans found;
    try {
      found = search_plans(made.asked(), few);
    } catch (const CapacityError&) {
      continue;
    }
    RunConfig config;
    config.model = "model";
    config.stages = made.request.stages;
    RunConfig read;
    read_config_text(to_yaml(with_plan(config, found.plans.front())), "plan.yaml", read);
    EXPECT_FALSE(leaves_policy_open(read));
    Plan again = found.plans.front();
    again.batching = read.batching;
    for (std::size_t s = 0; s < again.stages.size(); ++s) again.stages[s].config = read.stages[s];
    expect_fits(made.request, again);
    ++planned;
  }
  EXPECT_GT(planned, 10);  // else this would show nothing
}

}  // namespace
}  // namespace sluice::launcher
