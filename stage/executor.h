// Runs the schedule of a pass: turns each task into calls of the weight stream, the cache, the
// activations and the model, which put their work on the device's lanes. It is the only loop there
// is; it runs ahead of the device and stands still only where data is not there yet.
#pragma once

#include <cstdint>
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
#include "stage/schedule.h"

namespace sluice::stage {

/// What a pass is run with; owned by the stage.
struct StageParts {
  const StageLayout& layout;
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

  /// Puts the whole pass on the device's lanes. Results and hidden states leave by themselves.
  void run(const Pass& pass, PassInbox& inbox);

  /// The steps of run(), for those that look on: begin(), then each of tasks() in order, then
  /// end().
  void begin(const Pass& pass);
  std::span<const Task> tasks() const { return tasks_; }
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
  void dispatch(const Task& task, const Pass& pass, PassInbox& inbox);
  void run_acquire(const Task& task, const Pass& pass);
  void run_receive(const Task& task, const Pass& pass, PassInbox& inbox);
  void run_embed(const Task& task, const Pass& pass);
  void run_compute(const Task& task, const Pass& pass);
  void run_store_cache(const Task& task);
  void run_send(const Task& task, const Pass& pass);
  Event send_to_device(TensorView hidden);
  void run_logits(const Task& task, const Pass& pass);

  TensorView open(const Pass& pass, std::int32_t gpu_batch, bool fresh);
  void close(std::int32_t gpu_batch, bool keep, Event read_by = {});
  OpenBatch& opened(std::int32_t gpu_batch) { return open_[static_cast<std::size_t>(gpu_batch)]; }
  std::int64_t tokens_of(const Pass& pass, std::int32_t gpu_batch) const {
    return pass.batch_tokens[static_cast<std::size_t>(gpu_batch)];
  }
  /// Decoder layers of this stage count from 0 in the cache, after the embedding in the stream.
  std::int32_t cache_layer(const Task& task) const { return task.layer - (shape_.first ? 1 : 0); }
  bool is_last_layer(const Task& task) const { return cache_layer(task) + 1 == shape_.layers; }

  StageParts parts_;
  Backend& backend_;
  kernels::Ops& ops_;
  const bool overlaps_;  // Policy::overlap
  PassIndices indices_;
  std::optional<HiddenSends> sends_;  // not on the last stage
  std::optional<Logits> logits_;      // on the last stage

  ScheduleShape shape_;
  std::vector<Task> tasks_;
  offload::WeightStream::Lease lease_;
  std::vector<OpenBatch> open_;                              // by GPU batch
  std::vector<std::vector<offload::KvSequence>> sequences_;  // by GPU batch
  Event vectors_free_[2];                                    // query, keys and values of a set
  int set_ = 0;
};

}  // namespace sluice::stage
