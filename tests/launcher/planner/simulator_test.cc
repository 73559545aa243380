#include "launcher/planner/simulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "stage/task_work.h"
#include "tests/launcher/planner/paper_cases.h"

namespace sluice::launcher {
namespace {

using paper::alike;
using paper::Case;
using paper::figure;
using paper::flat;
using paper::free_machine;
using paper::usual_machine;

double seconds_of(const SimulatedRun& run, std::size_t stage, Activity activity) {
  return run.stages[stage].run.totals.seconds[static_cast<std::size_t>(activity)];
}

/// Bytes of a stage's weight groups that pass through the ring.
double streamed_bytes(const SimulatedJob& job) {
  std::uint64_t bytes = 0;
  for (const offload::GroupPlacement& group : job.placements.front()) {
    bytes += group.bytes(offload::Tier::host) + group.bytes(offload::Tier::disk);
  }
  return static_cast<double>(bytes);
}

TEST(Simulator, CountsARunAsTheHeadDoes) {
  Case one;
  one.requests = {{5, 3}, {9, 1}, {2, 7}, {30, 2}, {4, 0}};
  one.config.batching.gpu_batch_size = 2;
  const SimulatedRun run = one.run(usual_machine());
  EXPECT_EQ(run.run.requests, 5);
  EXPECT_EQ(run.run.prompt_tokens, 50);
  EXPECT_EQ(run.run.completion_tokens, 13);
  EXPECT_EQ(run.run.decode_tokens, 9);  // the first tokens come with the prompts
  EXPECT_GT(run.run.wall_seconds, 0);
  EXPECT_NEAR(run.run.prefill_seconds + run.run.decode_seconds, run.run.wall_seconds,
              1e-9 * run.run.wall_seconds);
}

TEST(Simulator, TakesNoTimeWhereNothingDoes) {
  EXPECT_EQ(Case().run(free_machine()).run.wall_seconds, 0);
}

// With every rate but one infinite the run takes what that resource has to do over its rate.
TEST(Simulator, ProductsAloneTakeTheirFlopOverTheirRate) {
  Machine machine = free_machine();
  machine.device.products[DType::f32] = flat(1e9);
  const Case one;
  const SimulatedRun run = one.run(machine);
  const double layers = 4 * 2.0 * 12 * 256 * 256;
  const double head = 2.0 * 256 * 512;
  const double flop = 4 * (19 * layers + 4 * head);  // the last token is not computed
  EXPECT_NEAR(run.run.wall_seconds, flop / 1e9, 1e-9);
  EXPECT_NEAR(seconds_of(run, 0, Activity::compute), run.run.wall_seconds, 1e-9);
}

TEST(Simulator, StreamedWeightsAloneTakeTheirBytesForEachPass) {
  Machine machine = free_machine();
  machine.host_to_device.alone = figure(1e8);
  Case one;
  one.config.stage_defaults.policy.weights = {0, 100, 0};
  const SimulatedRun run = one.run(machine);
  const double passes = 4;
  const double expected = passes * streamed_bytes(one.job(machine)) / 1e8;
  // Ids and page tables go up beside them; after the last pass the stream is a few groups ahead.
  EXPECT_NEAR(run.run.wall_seconds, expected, 0.001 * expected);
  EXPECT_NEAR(seconds_of(run, 0, Activity::host_to_device), expected, 0.001 * expected);
}

TEST(Simulator, TheDiskAloneTakesItsBytesForEachPass) {
  Machine machine = free_machine();
  machine.disk.read = flat(1e7);
  Case one;
  one.config.stage_defaults.policy.weights = {0, 0, 100};
  const SimulatedRun run = one.run(machine);
  const double expected = 4 * streamed_bytes(one.job(machine)) / 1e7;
  EXPECT_NEAR(run.run.wall_seconds, expected, 0.001 * expected);
  EXPECT_NEAR(seconds_of(run, 0, Activity::disk_read), run.run.wall_seconds, 0.001 * expected);
}

// A disk whose reads are waited for by nobody would be over long after the run.
TEST(Simulator, ACacheOrActivationsOnDiskTakeTheirBytesForEachPass) {
  Machine machine = free_machine();
  machine.disk.read = flat(1e7);
  for (const bool is_cache : {true, false}) {
    SCOPED_TRACE(is_cache ? "cache" : "activations");
    Case one;
    one.config.batching.gpu_batch_size = 2;
    one.config.batching.num_gpu_batches = 2;
    auto& policy = one.config.stage_defaults.policy;
    (is_cache ? policy.cache : policy.activations) = {0, 0, 100};
    one.requests = alike(4, 64, 40);
    const SimulatedRun run = one.run(machine);
    const auto read = run.stages[0].run.totals.bytes[static_cast<std::size_t>(Activity::disk_read)];
    ASSERT_GT(read, 0);
    EXPECT_NEAR(run.run.wall_seconds, static_cast<double>(read) / 1e7,
                0.001 * run.run.wall_seconds);
    EXPECT_NEAR(seconds_of(run, 0, Activity::disk_read), run.run.wall_seconds,
                0.001 * run.run.wall_seconds);
  }
}

TEST(Simulator, AUsersLimitIsALinksRate) {
  Machine machine = free_machine();
  machine.host_to_device.alone = figure(1e8);
  Case one;
  one.config.stage_defaults.policy.weights = {0, 100, 0};
  const double free = one.run(machine).run.wall_seconds;
  one.config.stage_defaults.limits.host_to_device_gbps = 0.01;  // a tenth
  EXPECT_NEAR(one.run(machine).run.wall_seconds, 10 * free, 0.01 * free);
}

TEST(Simulator, AttentionOfTheHostReadsItsCacheOnceForEachStep) {
  Machine machine = free_machine();
  machine.host.decode_attention[DType::f32] = figure(1e6);
  Case one;
  one.config.stage_defaults.policy.cache = {0, 100, 0};
  one.config.stage_defaults.policy.cpu_cache_compute = true;
  one.requests = alike(1, 16, 4);
  const SimulatedRun run = one.run(machine);
  // Contexts of 16, 17, 18 and 19 tokens, in 4 layers: keys and values of 256 elements.
  const double bytes = (16 + 17 + 18 + 19) * 4 * 2 * 256 * 4.0;
  EXPECT_NEAR(run.run.wall_seconds, bytes / 1e6, 1e-6);
  EXPECT_NEAR(seconds_of(run, 0, Activity::host_compute), bytes / 1e6, 1e-6);
}

TEST(Simulator, MessagesAloneTakeTheirBytesOverTheLink) {
  Machine machine = free_machine();
  machine.hosts = 2;
  machine.between_hosts.bandwidth = figure(1e6);
  Case two;
  two.stages = 2;
  two.config.batching.micro_batches = 1;
  two.requests = alike(1, 16, 4);
  const double bytes = 19 * 256 * 4.0;
  EXPECT_NEAR(two.run(machine).run.wall_seconds, bytes / 1e6, 1e-9);
}

/// P stages that take equally long, T micro-batches of one pass each.
double seconds_of_pipeline(std::int32_t stages, std::int32_t micro_batches) {
  Machine machine = free_machine();
  machine.hosts = stages;
  machine.device.products[DType::f32] = flat(1e9);
  Case pipeline;
  pipeline.model = paper::model(8, 256, 1);  // a head that takes nothing
  pipeline.stages = stages;
  pipeline.config.batching.gpu_batch_size = 1;
  pipeline.config.batching.micro_batches = micro_batches;
  for (std::int32_t s = 0; s < stages; ++s) {
    pipeline.config.stages.emplace_back().layers = 8 / stages;
  }
  pipeline.requests = alike(static_cast<std::size_t>(micro_batches), 32, 1);
  return pipeline.run(machine).run.wall_seconds;
}

TEST(Simulator, APipelineHasTheBubbleThatItMustHave) {
  for (const std::int32_t stages : {1, 2, 4, 8}) {
    for (const std::int32_t micro_batches : {1, 3, 4, 9}) {
      const double pass = 8.0 / stages * 32 * 2 * 12 * 256 * 256 / 1e9;
      const double expected = (micro_batches + stages - 1) * pass;
      EXPECT_NEAR(seconds_of_pipeline(stages, micro_batches), expected, 0.001 * expected)
          << stages << " stages, " << micro_batches << " micro-batches";
    }
  }
}

/// Where bytes may live, one case each.
struct PolicyCase {
  const char* name;
  offload::Shares weights, cache, activations;
  bool host_attends = false;
  bool overlap = true;
  bool mlp_once = false;
};
const PolicyCase kPolicies[] = {
    {"device", {}, {}, {}},
    {"host weights", {0, 100, 0}, {}, {}},
    {"split weights", {40, 30, 30}, {}, {}},
    {"disk weights", {0, 0, 100}, {}, {}},
    {"streamed cache", {}, {0, 100, 0}, {}},
    {"host attends", {}, {20, 80, 0}, {}, true},
    {"all of it", {20, 80, 0}, {0, 100, 0}, {0, 100, 0}, true},
    {"disk cache", {50, 50, 0}, {0, 50, 50}, {0, 100, 0}},
    {"activations on disk", {}, {}, {0, 0, 100}},
    {"no overlap", {0, 100, 0}, {0, 100, 0}, {}, false, false},
    {"MLP once", {0, 100, 0}, {}, {}, false, true, true},
};

Case case_of(const PolicyCase& policy, std::int32_t stages) {
  Case made;
  offload::Policy& used = made.config.stage_defaults.policy;
  used.weights = policy.weights;
  used.cache = policy.cache;
  used.activations = policy.activations;
  used.cpu_cache_compute = policy.host_attends;
  used.overlap = policy.overlap;
  used.mlp_once = policy.mlp_once;
  made.stages = stages;
  made.config.batching.gpu_batch_size = 4;
  made.config.batching.num_gpu_batches = 2;
  made.requests = alike(static_cast<std::size_t>(8 * (stages + 1)), 40, 96);
  return made;
}

class SimulatedPolicies : public testing::TestWithParam<PolicyCase> {};

TEST_P(SimulatedPolicies, InterpolatedStepsTakeAsLongAsSimulatedOnes) {
  for (const std::int32_t stages : {1, 3}) {
    const Case one = case_of(GetParam(), stages);
    const SimulatedRun full = one.run(usual_machine(), {.every_pass = true});
    const SimulatedRun fast = one.run(usual_machine());
    EXPECT_NEAR(fast.run.wall_seconds, full.run.wall_seconds, 0.01 * full.run.wall_seconds);
    EXPECT_NEAR(fast.run.decode_seconds, full.run.decode_seconds, 0.01 * full.run.wall_seconds);
    EXPECT_LT(fast.passes_simulated, full.passes_simulated * 3 / 4);
    EXPECT_EQ(fast.run.decode_tokens, full.run.decode_tokens);
    for (std::size_t s = 0; s < full.stages.size(); ++s) {
      EXPECT_NEAR(static_cast<double>(fast.stages[s].run.passes),
                  static_cast<double>(full.stages[s].run.passes), 1);
      EXPECT_NEAR(seconds_of(fast, s, Activity::compute), seconds_of(full, s, Activity::compute),
                  0.01 * full.run.wall_seconds);
    }
  }
}

TEST_P(SimulatedPolicies, WorkIsWhatTheTasksAddUpTo) {
  const Case one = case_of(GetParam(), 2);
  const SimulatedRun run = one.run(usual_machine(), {.every_pass = true});
  for (const stage::StageReport& stage : run.stages) {
    const auto& seconds = stage.run.totals.seconds;
    double accounted = seconds[static_cast<std::size_t>(Activity::compute)];
    for (auto a = static_cast<std::size_t>(Activity::stall_weights); a < kActivityCount; ++a) {
      accounted += seconds[a];
    }
    // Computing, or standing still for a reason, until its last task; then the others end.
    EXPECT_LE(accounted, stage.run.wall_seconds * (1 + 1e-9));
    EXPECT_GT(accounted, 0.8 * stage.run.wall_seconds);
  }
}

TEST_P(SimulatedPolicies, FasterRatesAreNeverSlower) {
  const Case one = case_of(GetParam(), 2);
  const double usual = one.run(usual_machine()).run.wall_seconds;
  const auto with = [&](auto change) {
    Machine machine = usual_machine();
    change(machine);
    return one.run(machine).run.wall_seconds;
  };
  EXPECT_LE(with([](Machine& m) { m.device.products[DType::f32] = flat(4e9); }), usual * 1.0001);
  EXPECT_LE(with([](Machine& m) {
              m.host_to_device.alone = figure(8e8);
              m.host_to_device.computing = figure(6e8);
            }),
            usual * 1.0001);
  // Reads that end sooner may come beside other copies: an order of tasks can be worse for it.
  EXPECT_LE(with([](Machine& m) { m.disk.read = m.disk.write = flat(4e8); }), usual * 1.001);
  EXPECT_LE(with([](Machine& m) { m.between_hosts.bandwidth = figure(2e9); }), usual * 1.0001);
}

INSTANTIATE_TEST_SUITE_P(Policies, SimulatedPolicies, testing::ValuesIn(kPolicies),
                         [](const auto& policy) {
                           std::string name = policy.param.name;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

TEST(Simulator, MoreStagesAreNotSlower) {
  Case one = case_of(kPolicies[1], 1);
  one.requests = alike(64, 40, 32);
  double before = 1e300;
  for (const std::int32_t stages : {1, 2, 4}) {
    one.stages = stages;
    const double seconds = one.run(usual_machine()).run.wall_seconds;
    EXPECT_LT(seconds, before) << stages;
    before = seconds;
  }
}

TEST(Simulator, RanksOfAHostShareWhatItHas) {
  Machine machine = free_machine();
  machine.disk.read = flat(1e7);
  Case two;
  two.stages = 2;
  two.config.batching.micro_batches = 2;
  two.config.batching.gpu_batch_size = 2;
  two.config.stage_defaults.policy.weights = {0, 0, 100};
  machine.hosts = 2;
  const double apart = two.run(machine).run.wall_seconds;
  machine.hosts = 1;
  const double together = two.run(machine).run.wall_seconds;
  EXPECT_GT(together, 1.5 * apart);
}

TEST(Simulator, KeepsSpansThatAddUpToWhatTheReportSays) {
  const Case one = case_of(kPolicies[6], 2);
  const SimulatedRun run = one.run(usual_machine(), {.most_spans = 1'000'000});
  for (std::size_t s = 0; s < run.stages.size(); ++s) {
    double compute = 0;
    for (const Span& span : run.spans[s]) {
      if (span.activity == Activity::compute) {
        compute += static_cast<double>(span.end_ns - span.begin_ns) * 1e-9;
      }
    }
    EXPECT_NEAR(compute, seconds_of(run, s, Activity::compute), 1e-3 * run.run.wall_seconds);
  }
}

TEST(Simulator, EndsWhereAStageHasAllSpans) {
  Case one;
  one.requests = alike(1000, 20, 30);
  const SimulatedRun run = one.run(usual_machine(), {.most_spans = 100});
  EXPECT_TRUE(run.cut_short);
  EXPECT_GE(run.spans.front().size(), 100);
  EXPECT_LT(run.spans.front().size(), 200);
  EXPECT_FALSE(Case().run(usual_machine(), {.most_spans = 100'000}).cut_short);
}

TEST(Simulator, ATierThatIsTooSmallIsRefusedAsARunWould) {
  Case one;
  one.config.stage_defaults.budgets.bytes = {std::uint64_t{1} << 20U, 0, 0};
  EXPECT_THROW(check_capacity(one.job(usual_machine()), usual_machine()), CapacityError);
  one.config.stage_defaults.budgets.bytes = {};
  Machine machine = usual_machine();
  EXPECT_NO_THROW(check_capacity(one.job(machine), machine));
  one.config.stage_defaults.policy.weights = {0, 100, 0};
  machine.host.memory = std::uint64_t{1} << 20U;
  EXPECT_THROW(check_capacity(one.job(machine), machine), CapacityError);
}

}  // namespace
}  // namespace sluice::launcher
