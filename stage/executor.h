// Runs the schedule of a pass: turns each task into calls of the weight stream, the cache, the
// activations and the model, which put their work on the device's lanes. It is the only loop there
// is; it runs ahead of the device and stands still only where data is not there yet.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "comm/device_channel.h"
#include "offload/activations/activation_store.h"
#include "stage/decoder.h"
#include "stage/departures.h"
#include "stage/logits.h"
#include "stage/pass_inbox.h"
#include "stage/pass_indices.h"
#include "stage/pass_shape.h"
#include "stage/schedule.h"

namespace sluice::stage {

/// What a pass is run with; owned by the stage.
struct StageParts {
  const StageLayout& layout;
  const std::vector<offload::GroupPlacement>& placement;  // of the weights
  comm::World& world;
  comm::DeviceChannel* channel;  // null: hidden states leave through the world
  kernels::Engine& engine;
  offload::WeightStream& weights;
  offload::KvCache& cache;
  offload::ActivationStore& activations;
  Workspace& workspace;
  Trace& trace;
};

class Executor {
 public:
  explicit Executor(const StageParts& parts);
  ~Executor();

  /// Makes the pass's schedule; puts nothing on a lane.
  void plan(const Pass& pass);
  std::span<const Task> tasks() const { return tasks_; }
  const ScheduleShape& shape() const { return shape_; }

  /// Puts the whole pass that was planned on the device's lanes. Results and hidden states leave by
  /// themselves.
  void run(const Pass& pass, PassInbox& inbox);

  /// The steps of run(), for those that look on: begin(), each of tasks() in order, end().
  void begin(const Pass& pass);
  void run_task(const Task& task, const Pass& pass, PassInbox& inbox);
  void end(const Pass& pass);

  /// Blocks until everything has left.
  void drain();
  /// Why what leaves could not leave; null: it could.
  std::exception_ptr failure() const;

 private:
  struct OpenBatch {
    TensorView hidden;
    bool open = false;
  };

  void finish_lanes();
  void begin_cache(const Pass& pass);
  void begin_adapters(const Pass& pass);
  void run_lease(const Task& task, const Pass& pass);
  void take_hidden(const Task& task, const Pass& pass, PassInbox& inbox);
  void run_embed(const Task& task, const Pass& pass);
  void run_attention(const Task& task, const Pass& pass);
  void store_cache(const Task& task);
  void run_mlp(const Task& task, const Pass& pass);
  void run_send(const Task& task, const Pass& pass);
  Event send_to_device(TensorView hidden);
  void run_logits(const Task& task, const Pass& pass);

  /// The GPU batch's number in the micro-batch.
  std::int32_t index_of(const Task& task) const {
    return shape_.gpu_batches[static_cast<std::size_t>(task.gpu_batch)].index;
  }
  LayerAdapters adapters_of(const Task& task) const;
  TensorView open(const Task& task, bool fresh);
  void close(std::int32_t gpu_batch, bool keep, Event read_by = {});
  void leave_layer(const Task& task, const Pass& pass, const GpuBatchShape& batch);
  OpenBatch& opened(std::int32_t gpu_batch) { return open_[static_cast<std::size_t>(gpu_batch)]; }

  StageParts parts_;
  Backend& backend_;
  kernels::Ops& ops_;
  PassIndices indices_;
  std::optional<HiddenSends> sends_;  // not on the last stage
  std::optional<Logits> logits_;      // on the last stage

  ScheduleShape shape_;
  const std::function<offload::Tier(std::int32_t)> tier_of_;  // of a slot
  std::vector<Task> tasks_;
  offload::WeightStream::Lease lease_;
  std::vector<OpenBatch> open_;                              // by GPU batch
  std::vector<std::vector<offload::KvSequence>> sequences_;  // by GPU batch
  // Of runs with adapters: the rows that have one, by GPU batch, and of the whole micro-batch.
  std::vector<std::vector<AdapterRows>> adapted_;
  std::vector<AdapterRows> all_adapted_;
  Event vectors_free_[2];  // query, keys and values of a set
  int set_ = 0;
};

}  // namespace sluice::stage
