#include "stage/schedule.h"

#include <array>

#include "kernels/device/error.h"
#include "stage/stage_config.h"

namespace sluice::stage {

namespace {

/// Appends tasks and remembers the latest of each sort, which is what later ones depend on.
class Builder {
 public:
  Builder(const ScheduleShape& shape, std::vector<Task>& tasks) : shape_(shape), tasks_(tasks) {
    tasks_.clear();
    state_.fill(kNoTask);
    fetched_.fill(kNoTask);
  }

  void run() {
    const std::int32_t first_decoder = shape_.first ? 1 : 0;
    if (shape_.first) embedding();
    for (std::int32_t layer = 0; layer < shape_.layers; ++layer) {
      decoder_layer(first_decoder + layer, layer == 0, layer + 1 == shape_.layers);
    }
    if (shape_.last) head(first_decoder + shape_.layers);
  }

 private:
  std::int32_t add(TaskKind kind, Resource resource, std::int32_t layer, std::int32_t gpu_batch,
                   std::array<std::int32_t, kMaxDependencies> after) {
    Task task{kind, resource, layer, gpu_batch, {}};
    int used = 0;
    for (std::int32_t& slot : task.after) slot = kNoTask;
    for (const std::int32_t dependency : after) {
      if (dependency != kNoTask) task.after[used++] = dependency;
    }
    tasks_.push_back(task);
    return static_cast<std::int32_t>(tasks_.size()) - 1;
  }

  std::int32_t acquire(std::int32_t layer) {
    return add(TaskKind::acquire, Resource::host_to_device, layer, -1,
               {kNoTask, kNoTask, kNoTask, kNoTask});
  }

  void release(std::int32_t layer, std::int32_t last_use) {
    add(TaskKind::release, Resource::none, layer, -1, {last_use, kNoTask, kNoTask, kNoTask});
  }

  /// The latest task that wrote hidden states of a GPU batch.
  std::int32_t& state(std::int32_t gpu_batch) {
    return state_[static_cast<std::size_t>(gpu_batch)];
  }
  std::int32_t& fetched(std::int32_t gpu_batch) {
    return fetched_[static_cast<std::size_t>(gpu_batch)];
  }

  void embedding() {
    const std::int32_t weights = acquire(0);
    std::int32_t last = weights;
    for (const std::int32_t g : shape_.gpu_batches) {
      last = state(g) =
          add(TaskKind::embed, Resource::compute, 0, g, {weights, kNoTask, kNoTask, kNoTask});
    }
    release(0, last);
  }

  void fetch(std::int32_t layer, std::int32_t gpu_batch) {
    if (!shape_.streams_cache) return;
    // What this layer stored in the last pass is older than this pass; within a pass every (layer,
    // GPU batch) is fetched once. The staging slot is free once the step before the last was
    // computed.
    fetched(gpu_batch) = add(TaskKind::fetch_cache, Resource::host_to_device, layer, gpu_batch,
                             {before_last_compute_, kNoTask, kNoTask, kNoTask});
  }

  /// Hidden states of the step after this one, unless it is this one's own GPU batch, or they are
  /// only received then.
  void fetch_next_hidden(std::int32_t layer, std::size_t i, bool is_first, bool is_last) {
    const std::size_t count = shape_.gpu_batches.size();
    if (!shape_.moves_hidden || count < 2) return;
    const bool same_layer = i + 1 < count;
    if (same_layer ? is_first && !shape_.first : is_last) return;
    const std::int32_t g = shape_.gpu_batches[same_layer ? i + 1 : 0];
    state(g) = add(TaskKind::fetch_hidden, Resource::host_to_device, same_layer ? layer : layer + 1,
                   g, {state(g), kNoTask, kNoTask, kNoTask});
  }

  void decoder_layer(std::int32_t layer, bool is_first, bool is_last) {
    const std::int32_t weights = acquire(layer);
    const std::size_t count = shape_.gpu_batches.size();
    std::int32_t last = weights;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int32_t g = shape_.gpu_batches[i];
      if (is_first && i == 0) fetch(layer, g);
      if (is_first && !shape_.first) {
        state(g) = add(TaskKind::receive, Resource::receive, layer, g,
                       {kNoTask, kNoTask, kNoTask, kNoTask});
      }
      const std::int32_t cache = fetched(g);
      // One step ahead: the next GPU batch of this layer, or the first of the next layer.
      if (i + 1 < count) {
        fetch(layer, shape_.gpu_batches[i + 1]);
      } else if (!is_last) {
        fetch(layer + 1, shape_.gpu_batches[0]);
      }
      fetch_next_hidden(layer, i, is_first, is_last);
      last =
          add(TaskKind::compute, Resource::compute, layer, g, {weights, state(g), cache, kNoTask});
      before_last_compute_ = last_compute_;
      last_compute_ = last;
      state(g) = last;
      add(TaskKind::store_cache, Resource::device_to_host, layer, g,
          {last, kNoTask, kNoTask, kNoTask});
      if (is_last && !shape_.last) {
        add(TaskKind::send, Resource::send, layer, g, {last, kNoTask, kNoTask, kNoTask});
      }
    }
    release(layer, last);
  }

  void head(std::int32_t layer) {
    const std::int32_t weights = acquire(layer);
    std::int32_t last = weights;
    for (const std::int32_t g : shape_.gpu_batches) {
      last =
          add(TaskKind::logits, Resource::compute, layer, g, {weights, state(g), kNoTask, kNoTask});
    }
    release(layer, last);
  }

  const ScheduleShape& shape_;
  std::vector<Task>& tasks_;
  std::array<std::int32_t, kMaxGpuBatches> state_;
  std::array<std::int32_t, kMaxGpuBatches> fetched_;
  std::int32_t last_compute_ = kNoTask;
  std::int32_t before_last_compute_ = kNoTask;
};

}  // namespace

void build_schedule(const ScheduleShape& shape, std::vector<Task>& tasks) {
  for (const std::int32_t g : shape.gpu_batches) {
    if (g < 0 || g >= kMaxGpuBatches) {
      throw ConfigError("batching.num_gpu_batches: at most " + std::to_string(kMaxGpuBatches) +
                        " GPU batches fit a micro-batch");
    }
  }
  Builder(shape, tasks).run();
}

}  // namespace sluice::stage
