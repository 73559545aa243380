// The laws of the schedule, checked with no device: it is data.
#include "stage/schedule.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>

namespace sluice::stage {
namespace {

struct Shape {
  bool first;
  bool last;
  std::int32_t layers;
  bool streams_cache;
  bool moves_hidden;
  std::vector<std::int32_t> batches;
};

class ScheduleTest : public testing::TestWithParam<Shape> {
 protected:
  ScheduleTest() {
    shape_.first = GetParam().first;
    shape_.last = GetParam().last;
    shape_.layers = GetParam().layers;
    shape_.streams_cache = GetParam().streams_cache;
    shape_.moves_hidden = GetParam().moves_hidden;
    shape_.gpu_batches = GetParam().batches;
    build_schedule(shape_, tasks_);
  }

  std::int32_t count(TaskKind kind) const {
    std::int32_t found = 0;
    for (const Task& task : tasks_) found += task.kind == kind ? 1 : 0;
    return found;
  }

  /// Every task that `index` must come after, directly or not.
  std::set<std::int32_t> ancestors(std::int32_t index) const {
    std::set<std::int32_t> found;
    for (const std::int32_t before : tasks_[static_cast<std::size_t>(index)].after) {
      if (before == kNoTask || !found.insert(before).second) continue;
      found.merge(ancestors(before));
    }
    return found;
  }

  ScheduleShape shape_;
  std::vector<Task> tasks_;
};

TEST_P(ScheduleTest, EveryTaskComesAfterWhatItNeeds) {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    for (const std::int32_t before : tasks_[i].after) EXPECT_LT(before, static_cast<int>(i));
  }
}

TEST_P(ScheduleTest, EveryLayerIsComputedOnceForEveryGpuBatch) {
  std::set<std::pair<std::int32_t, std::int32_t>> computed;
  for (const Task& task : tasks_) {
    if (task.kind != TaskKind::compute) continue;
    EXPECT_TRUE(computed.insert({task.layer, task.gpu_batch}).second);
  }
  EXPECT_EQ(computed.size(), static_cast<std::size_t>(shape_.layers) * shape_.gpu_batches.size());
}

TEST_P(ScheduleTest, WeightsAreHeldOnceForAllGpuBatchesAndOneLayerAtATime) {
  std::int32_t held = -1;
  std::int32_t next = 0;
  for (const Task& task : tasks_) {
    switch (task.kind) {
      case TaskKind::acquire:
        EXPECT_EQ(held, -1);
        EXPECT_EQ(task.layer, next++) << "the weight stream is cyclic and in order";
        held = task.layer;
        break;
      case TaskKind::release:
        EXPECT_EQ(held, task.layer);
        held = -1;
        break;
      case TaskKind::embed:
      case TaskKind::compute:
      case TaskKind::logits:
        EXPECT_EQ(held, task.layer);
        break;
      default:
        break;
    }
  }
  EXPECT_EQ(held, -1);
  EXPECT_EQ(next, stream_layers(shape_));
}

TEST_P(ScheduleTest, AGpuBatchGoesThroughItsLayersInOrder) {
  std::map<std::int32_t, std::int32_t> last;  // latest compute of a GPU batch
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].kind != TaskKind::compute) continue;
    const auto index = static_cast<std::int32_t>(i);
    const auto found = last.find(tasks_[i].gpu_batch);
    if (found != last.end()) {
      EXPECT_EQ(ancestors(index).count(found->second), 1U);
    }
    last[tasks_[i].gpu_batch] = index;
  }
}

TEST_P(ScheduleTest, CacheIsFetchedOneStepAheadAndNeverMore) {
  if (!shape_.streams_cache) {
    EXPECT_EQ(count(TaskKind::fetch_cache), 0);
    return;
  }
  EXPECT_EQ(count(TaskKind::fetch_cache), count(TaskKind::compute));
  std::int32_t fetched = 0;
  std::int32_t computed = 0;
  for (const Task& task : tasks_) {
    if (task.kind == TaskKind::fetch_cache) ++fetched;
    if (task.kind == TaskKind::compute) {
      ++computed;
      const bool is_last = computed == count(TaskKind::compute);
      EXPECT_EQ(fetched, is_last ? computed : computed + 1);
    }
  }
}

TEST_P(ScheduleTest, HiddenStatesAreFetchedBesideTheStepBeforeTheirs) {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].kind != TaskKind::fetch_hidden) continue;
    EXPECT_TRUE(shape_.moves_hidden);
    // The next two computes: another GPU batch's, then the one this was fetched for.
    std::vector<const Task*> computes;
    for (std::size_t k = i + 1; k < tasks_.size() && computes.size() < 2; ++k) {
      if (tasks_[k].kind == TaskKind::compute) computes.push_back(&tasks_[k]);
    }
    ASSERT_EQ(computes.size(), 2U);
    EXPECT_NE(computes[0]->gpu_batch, tasks_[i].gpu_batch);
    EXPECT_EQ(computes[1]->gpu_batch, tasks_[i].gpu_batch);
    EXPECT_EQ(computes[1]->layer, tasks_[i].layer);
  }
  const bool can = shape_.moves_hidden && shape_.gpu_batches.size() > 1 && shape_.layers > 1;
  EXPECT_EQ(count(TaskKind::fetch_hidden) > 0, can);
}

TEST_P(ScheduleTest, PiecesLeaveAsEachGpuBatchIsDone) {
  const auto batches = static_cast<std::int32_t>(shape_.gpu_batches.size());
  EXPECT_EQ(count(TaskKind::send), shape_.last ? 0 : batches);
  EXPECT_EQ(count(TaskKind::receive), shape_.first ? 0 : batches);
  EXPECT_EQ(count(TaskKind::embed), shape_.first ? batches : 0);
  EXPECT_EQ(count(TaskKind::logits), shape_.last ? batches : 0);
  for (std::size_t i = 1; i < tasks_.size(); ++i) {
    if (tasks_[i].kind != TaskKind::send) continue;
    // Directly after its own last layer, before the next GPU batch is computed.
    EXPECT_EQ(tasks_[i - 1].kind, TaskKind::store_cache);
    EXPECT_EQ(tasks_[i - 1].gpu_batch, tasks_[i].gpu_batch);
  }
}

TEST_P(ScheduleTest, IsAPureFunctionOfItsShape) {
  std::vector<Task> again(3);
  build_schedule(shape_, again);
  ASSERT_EQ(again.size(), tasks_.size());
  for (std::size_t i = 0; i < again.size(); ++i) {
    EXPECT_EQ(std::tie(again[i].kind, again[i].layer, again[i].gpu_batch),
              std::tie(tasks_[i].kind, tasks_[i].layer, tasks_[i].gpu_batch));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ScheduleTest,
                         testing::Values(Shape{true, true, 1, false, false, {0}},
                                         Shape{true, true, 4, true, true, {0, 1, 2}},
                                         Shape{true, false, 3, true, false, {0, 1}},
                                         Shape{false, false, 2, true, true, {1}},
                                         Shape{false, true, 5, false, true, {0, 2}},
                                         Shape{false, true, 1, true, true, {0, 1, 2, 3}},
                                         Shape{true, true, 2, true, true, {}}));

}  // namespace
}  // namespace sluice::stage
