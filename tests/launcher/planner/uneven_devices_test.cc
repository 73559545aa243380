// Hosts whose devices are of several kinds: who gets which layers, and what it takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "launcher/planner/machine_file.h"
#include "launcher/planner/plan_prediction.h"
#include "launcher/planner/plan_search.h"
#include "plan_cases.h"

namespace sluice::launcher {
namespace {

using paper::Case;
using paper::figure;
using paper::flat;
using paper::PlanCase;

/// The second device of three multiplies three times as fast.
Machine uneven_machine() {
  Machine machine = paper::usual_machine();
  machine.hosts = 1;
  machine.devices = 3;
  OtherDevices fast;
  fast.first = 1;
  fast.device = machine.device;
  fast.device.products[DType::f32] = flat(6e9);
  fast.host_to_device = fast.device_to_host = machine.host_to_device;
  OtherDevices slow = fast;
  slow.first = 2;
  slow.device = machine.device;
  machine.other_devices = {fast, slow};
  return machine;
}

/// Three stages with everything on their devices: nothing but the layers is left to choose.
void make_case(PlanCase& made) {
  made.machine = uneven_machine();
  made.model.folder.config = paper::model(10, 256, 512);
  PlanRequest& request = made.request;
  request.stages.resize(3);
  request.job = PlannedJob::alike(32, 16, 16);
  request.batching.gpu_batch_size = 4;
  request.batching.micro_batches = 4;
  Decided& decided = request.decided;
  decided.weights = decided.cache = decided.activations = decided.cpu_cache_compute = true;
  decided.gpu_batch_size = decided.num_gpu_batches = decided.micro_batches = true;
  decided.max_tokens = true;
}

double best_of_all_splits(PlanCase& made, std::vector<std::int32_t>& best_split) {
  PlanBuilder builder(made.asked());
  PlanChoice choice;
  choice.batching = made.request.batching;
  double best = 0;
  for (std::int32_t first = 1; first <= 8; ++first) {
    for (std::int32_t second = 1; first + second <= 9; ++second) {
      const std::vector<std::int32_t> split = {first, second, 10 - first - second};
      std::vector<stage::StageConfig> stages = made.request.stages;
      std::int32_t next = 0;
      for (std::size_t s = 0; s < stages.size(); ++s) {
        stages[s].first_layer = next;
        next += stages[s].layers = split[s];
      }
      auto plan = builder.build(choice, stages);
      if (!plan) continue;
      predict(builder.papers(), *plan);
      if (plan->tokens_per_second() <= best) continue;
      best = plan->tokens_per_second();
      best_split = split;
    }
  }
  return best;
}

TEST(UnevenDevices, AFasterDeviceGetsMoreLayersAsInTheBestOfAllSplits) {
  PlanCase made;
  make_case(made);
  std::vector<std::int32_t> best_split;
  const double best = best_of_all_splits(made, best_split);
  const Plan plan = search_plans(made.asked()).plans.front();
  std::vector<std::int32_t> split;
  for (const PlannedStage& stage : plan.stages) split.push_back(stage.config.layers);
  EXPECT_EQ(split, best_split);
  EXPECT_GE(plan.tokens_per_second(), 0.999 * best);
  EXPECT_GT(split[1], 2 * split[0]);
  EXPECT_GT(split[1], 2 * split[2]);
  // With devices that are alike the same job takes longer.
  made.machine.other_devices.clear();
  EXPECT_LT(search_plans(made.asked()).plans.front().tokens_per_second(), 0.8 * best);
}

TEST(UnevenDevices, EachStageHasTheMemoryOfItsDevice) {
  PlanCase made;
  make_case(made);
  made.machine.device.memory = (std::uint64_t{1} << 30U) + (std::uint64_t{64} << 20U);
  made.machine.other_devices[0].device.memory = std::uint64_t{1} << 40U;
  made.machine.other_devices[1].device.memory = made.machine.device.memory;
  const StagePapers papers(made.asked());
  EXPECT_LT(papers.room(0).tier[0], std::uint64_t{1} << 30U);
  EXPECT_GT(papers.room(1).tier[0], std::uint64_t{1} << 39U);
  EXPECT_EQ(papers.room(2).tier[0], papers.room(0).tier[0]);
}

TEST(UnevenDevices, ASimulatedStageTakesItsOwnDevicesTime) {
  const Machine machine = uneven_machine();
  Case three;
  three.model = paper::model(9, 256, 512);
  three.stages = 3;
  for (std::int32_t s = 0; s < 3; ++s) three.config.stages.emplace_back().layers = 3;
  const SimulatedRun run = three.run(machine);
  const auto compute = [&](std::size_t stage) {
    return run.stages[stage].run.totals.seconds[static_cast<std::size_t>(Activity::compute)];
  };
  EXPECT_LT(compute(1), 0.6 * compute(0));
  EXPECT_GT(compute(2), 1.5 * compute(1));  // and its head
}

TEST(UnevenDevices, PaperMachinesSplitLayersByTheirKinds) {
  PlanCase made;
  made.machine = read_machine_file(std::string(SLUICE_SOURCE_DIR) +
                                   "/cluster-configs/machines/rtx3090-a5000x2.yaml");
  made.model.folder.config = paper::model(48, 4096, 50272);
  made.model.folder.config.dtype = DType::f16;
  made.request.made_up_weights = true;
  made.request.stages.resize(3);
  made.request.job = PlannedJob::alike(512, 32, 512);
  SearchOptions quick;
  quick.tasks = quick.most_tasks = 0;
  const Plan plan = search_plans(made.asked(), quick).plans.front();
  EXPECT_EQ(made.machine.other_devices.size(), 1U);
  EXPECT_NE(plan.stages[0].config.layers, plan.stages[1].config.layers);
}

}  // namespace
}  // namespace sluice::launcher
