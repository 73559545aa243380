// The laws of the schedule, checked with no device: it is data.
#include "stage/schedule.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>

#include "stage/schedule_edges.h"

namespace sluice::stage {
namespace {

struct Shape {
  bool first;
  bool last;
  std::int32_t layers;
  bool streams_cache;
  bool moves_hidden;
  std::vector<std::int32_t> batches;
  bool mlp_once = false;
};

/// Two sequences of 20 tokens each, with one new one.
GpuBatchShape gpu_batch(std::int32_t index, bool streamed) {
  GpuBatchShape batch;
  batch.index = index;
  batch.tokens = 2;
  batch.logits = 2;
  batch.hidden = {1, 1, 0};
  const auto tier = streamed ? offload::Tier::host : offload::Tier::device;
  batch.cached[static_cast<std::size_t>(tier)] = {.sequences = 2,
                                                  .tokens = 2,
                                                  .context = 40,
                                                  .pairs = 40,
                                                  .values = 40,
                                                  .value_pairs = 40,
                                                  .dense = 2,
                                                  .history_pages = 4,
                                                  .full_pages = 2};
  return batch;
}

class ScheduleTest : public testing::TestWithParam<Shape> {
 protected:
  ScheduleTest() {
    shape_.first = GetParam().first;
    shape_.last = GetParam().last;
    shape_.layers = GetParam().layers;
    shape_.moves_hidden = GetParam().moves_hidden;
    shape_.mlp_once = GetParam().mlp_once;
    shape_.logit_rows = 2;
    shape_.groups.resize(static_cast<std::size_t>(group_count(shape_)));
    for (const std::int32_t g : GetParam().batches) {
      shape_.gpu_batches.push_back(gpu_batch(g, GetParam().streams_cache));
    }
    build_schedule(shape_, tasks_);
    ScheduleEdges edges(shape_, 8, 1);
    edges.add(shape_, tasks_);
  }

  std::int32_t count(TaskKind kind) const {
    std::int32_t found = 0;
    for (const Task& task : tasks_) found += task.kind == kind ? 1 : 0;
    return found;
  }

  ScheduleShape shape_;
  std::vector<Task> tasks_;
};

TEST_P(ScheduleTest, EveryTaskComesAfterWhatItNeeds) {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    for (const Edge& edge : tasks_[i].after) EXPECT_LT(edge.task, static_cast<int>(i));
  }
}

TEST_P(ScheduleTest, EveryLayerIsComputedOnceForEveryGpuBatch) {
  for (const TaskKind kind : {TaskKind::attention, TaskKind::attention_output, TaskKind::mlp}) {
    std::set<std::pair<std::int32_t, std::int32_t>> computed;
    for (const Task& task : tasks_) {
      if (task.kind != kind) continue;
      EXPECT_TRUE(computed.insert({task.layer, task.gpu_batch}).second);
    }
    const std::size_t each = kind == TaskKind::mlp && shape_.mlp_once
                                 ? std::min<std::size_t>(shape_.gpu_batches.size(), 1)
                                 : shape_.gpu_batches.size();
    EXPECT_EQ(computed.size(), static_cast<std::size_t>(shape_.layers) * each);
  }
}

TEST_P(ScheduleTest, WeightsAreHeldOnceForAllGpuBatchesAndOneGroupAtATime) {
  std::int32_t held = -1;
  std::int32_t next = 0;
  for (const Task& task : tasks_) {
    switch (task.kind) {
      case TaskKind::lease:
        EXPECT_EQ(held, -1);
        EXPECT_EQ(task.group, next++) << "the weight stream is cyclic and in order";
        held = task.group;
        break;
      case TaskKind::release:
        EXPECT_EQ(held, task.group);
        held = -1;
        break;
      case TaskKind::embed:
      case TaskKind::attention:
      case TaskKind::attention_output:
      case TaskKind::mlp:
      case TaskKind::logits:
        EXPECT_EQ(held, task.group);
        break;
      default:
        break;
    }
  }
  EXPECT_EQ(held, -1);
  EXPECT_EQ(next, group_count(shape_));
}

TEST_P(ScheduleTest, AGpuBatchGoesThroughItsLayersInOrder) {
  std::map<std::int32_t, std::int32_t> next;  // layer, by GPU batch
  for (const Task& task : tasks_) {
    if (task.kind == TaskKind::attention) {
      EXPECT_EQ(task.layer, next[task.gpu_batch]++);
    }
  }
}

TEST_P(ScheduleTest, CacheIsFetchedOneStepAheadAndNeverMore) {
  if (!GetParam().streams_cache) {
    EXPECT_EQ(count(TaskKind::fetch_cache), 0);
    return;
  }
  EXPECT_EQ(count(TaskKind::fetch_cache), count(TaskKind::attention));
  std::int32_t fetched = 0;
  std::int32_t computed = 0;
  for (const Task& task : tasks_) {
    if (task.kind == TaskKind::fetch_cache) ++fetched;
    if (task.kind == TaskKind::attention) {
      ++computed;
      const bool is_last = computed == count(TaskKind::attention);
      EXPECT_EQ(fetched, is_last ? computed : computed + 1);
    }
  }
}

TEST_P(ScheduleTest, HiddenStatesAreFetchedBesideTheStepBeforeTheirsOrRightBeforeIt) {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].kind != TaskKind::fetch_hidden) continue;
    EXPECT_TRUE(shape_.moves_hidden);
    std::vector<const Task*> steps;
    for (std::size_t k = i + 1; k < tasks_.size() && steps.size() < 2; ++k) {
      const TaskKind kind = tasks_[k].kind;
      if (kind == TaskKind::attention || kind == TaskKind::logits) steps.push_back(&tasks_[k]);
    }
    ASSERT_FALSE(steps.empty());
    const bool beside = steps[0]->gpu_batch != tasks_[i].gpu_batch;
    ASSERT_EQ(steps.size() > 1 || !beside, true);
    EXPECT_EQ(steps[beside ? 1 : 0]->gpu_batch, tasks_[i].gpu_batch);
    EXPECT_EQ(steps[beside ? 1 : 0]->layer, tasks_[i].layer);
  }
  EXPECT_EQ(count(TaskKind::fetch_hidden), count(TaskKind::store_hidden));
}

TEST_P(ScheduleTest, PiecesLeaveAsEachGpuBatchIsDone) {
  const auto batches = static_cast<std::int32_t>(shape_.gpu_batches.size());
  EXPECT_EQ(count(TaskKind::send), shape_.last ? 0 : batches);
  EXPECT_EQ(count(TaskKind::receive), shape_.first ? 0 : batches);
  EXPECT_EQ(count(TaskKind::take_hidden), shape_.first ? 0 : batches);
  EXPECT_EQ(count(TaskKind::embed), shape_.first ? batches : 0);
  EXPECT_EQ(count(TaskKind::logits), shape_.last ? batches : 0);
  for (std::size_t i = 1; i < tasks_.size(); ++i) {
    if (tasks_[i].kind != TaskKind::send) continue;
    // Directly after its own last layer, before the next GPU batch is computed.
    EXPECT_EQ(tasks_[i - 1].kind, TaskKind::stage_hidden);
    EXPECT_EQ(tasks_[i - 1].gpu_batch, tasks_[i].gpu_batch);
    EXPECT_EQ(tasks_[i - 3].kind, TaskKind::mlp);
  }
}

TEST_P(ScheduleTest, HasNoMoreTasksThanThereIsRoomFor) {
  EXPECT_LE(tasks_.size(), most_tasks(shape_, static_cast<std::int32_t>(GetParam().batches.size()),
                                      shape_.logit_rows));
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
                                         Shape{true, true, 2, true, true, {}},
                                         Shape{true, true, 3, false, false, {0, 1, 2}, true},
                                         Shape{true, true, 2, true, false, {1, 3}, true}));

}  // namespace
}  // namespace sluice::stage
