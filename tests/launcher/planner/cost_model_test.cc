#include "launcher/planner/cost_model.h"

#include <gtest/gtest.h>

#include "stage/pass_shape.h"
#include "tests/launcher/planner/paper_cases.h"

namespace sluice::launcher {
namespace {

using paper::Case;
using paper::figure;
using paper::flat;
using stage::Resource;
using stage::Task;
using stage::TaskKind;

/// A decode step of a stage, and the tasks that it has.
struct Step {
  Step(const Case& of, const Machine& machine) : job(of.job(machine)) {
    const stage::StageLayout& layout = job.stages.front();
    shape = stage::schedule_shape(layout, job.placements.front());
    work = stage::stage_work(layout, job.placements.front());
    const auto tiers = offload::cache_tiers(layout.config.policy.cache, 1000);
    stage::set_pass(shape, layout, stage::decode_pass(layout, 16),
                    [&](std::int32_t slot) { return tiers[static_cast<std::size_t>(slot)]; });
    stage::build_schedule(shape, tasks);
  }
  const Task& first(TaskKind kind) const {
    for (const Task& task : tasks) {
      if (task.kind == kind) return task;
    }
    throw std::runtime_error("there is no such task");
  }

  SimulatedJob job;
  stage::ScheduleShape shape;
  stage::StageWork work;
  std::vector<Task> tasks;
};

TEST(CostModel, ProductsGoByTheCurveOfTheirStorageAtTheRowsOfTheBatch) {
  Machine machine = paper::free_machine();
  machine.device.products[DType::f32].points = {{4, figure(1e9)}, {8, figure(2e9)}};
  machine.device.products[DType::q8].points = {{4, figure(1e12)}};
  Case four;
  four.config.batching.gpu_batch_size = 4;
  const Step step(four, machine);
  const CostModel prices(machine, {}, DType::f32, DType::f32);
  const double flop = 4 * 2.0 * 8 * 256 * 256;
  EXPECT_DOUBLE_EQ(prices.seconds(step.first(TaskKind::mlp), step.shape, step.work), flop / 1e9);
  Case eight;
  eight.config.batching.gpu_batch_size = 8;
  const Step twice(eight, machine);
  EXPECT_DOUBLE_EQ(prices.seconds(twice.first(TaskKind::mlp), twice.shape, twice.work),
                   2 * flop / 2e9);
}

TEST(CostModel, ACpuStageHasItsThreadsPartOfTheRates) {
  Machine machine = paper::free_machine();
  machine.device.kind = "cpu";
  machine.device.threads = 8;
  machine.host.cores = 8;
  machine.device.products[DType::f32] = flat(1e9);
  const Step step(Case(), machine);
  const Task& mlp = step.first(TaskKind::mlp);
  StagePlace alone;
  StagePlace of_four;
  of_four.ranks_on_host = 4;
  const CostModel whole(machine, alone, DType::f32, DType::f32);
  const CostModel quarter(machine, of_four, DType::f32, DType::f32);
  const TaskCost cost = whole.cost(mlp, step.shape, step.work);
  EXPECT_DOUBLE_EQ(quarter.seconds(mlp, step.shape, step.work), 4 * cost.seconds);
  EXPECT_DOUBLE_EQ(cost.core_seconds, 8 * cost.seconds);
}

TEST(CostModel, CopiesAreLimitedAndUnpinnedMemoryIsSlower) {
  Machine machine = paper::free_machine();
  machine.host_to_device.alone = figure(1e9);
  machine.host_to_device.pageable = figure(5e8);
  Case streamed;
  streamed.config.stage_defaults.policy.weights = {0, 100, 0};
  const Step step(streamed, machine);
  const Task& load = step.first(TaskKind::load_weights);
  const auto seconds = [&](bool pinned, double gbps) {
    StagePlace place;
    place.pinned = pinned;
    stage::RateLimits limits;
    limits.host_to_device_gbps = gbps;
    return CostModel(machine, place, DType::f32, DType::f32, limits)
        .seconds(load, step.shape, step.work);
  };
  EXPECT_DOUBLE_EQ(seconds(false, 0), 2 * seconds(true, 0));
  EXPECT_DOUBLE_EQ(seconds(true, 0.25), 4 * seconds(true, 0));
  EXPECT_DOUBLE_EQ(seconds(true, 100), seconds(true, 0));
}

TEST(CostModel, ACopyBesideComputingIsSlowerAndSoIsTheComputing) {
  Machine machine = paper::free_machine();
  machine.host_to_device.alone = figure(1e9);
  machine.host_to_device.computing = figure(8e8);
  machine.host_to_device.product_share = figure(0.5);
  const CostModel prices(machine, {}, DType::f32, DType::f32);
  EXPECT_DOUBLE_EQ(prices.slowdown(Resource::host_to_device, Resource::compute), 1.25);
  EXPECT_DOUBLE_EQ(prices.slowdown(Resource::compute, Resource::host_to_device), 2);
  EXPECT_DOUBLE_EQ(prices.slowdown(Resource::compute, Resource::send), 1);
}

TEST(CostModel, TakesWhatIsMostAlikeWhereAFigureIsMissing) {
  Machine machine = paper::free_machine();
  machine.device.products[DType::f16] = flat(3e9);
  machine.device.products[DType::q4] = flat(1e9);
  const Step step(Case(), machine);
  const Task& mlp = step.first(TaskKind::mlp);
  const auto seconds = [&](DType storage) {
    return CostModel(machine, {}, storage, DType::f32).seconds(mlp, step.shape, step.work);
  };
  EXPECT_DOUBLE_EQ(seconds(DType::bf16), seconds(DType::f16));
  EXPECT_DOUBLE_EQ(seconds(DType::q8), 3 * seconds(DType::f16));
}

}  // namespace
}  // namespace sluice::launcher
