// Runs the schedule of a pass: turns each task into calls of the weight stream, the cache, the
// activations and the model, which put their work on the device's lanes. It is the only loop there
// is; it runs ahead of the device and stands still only where data is not there yet.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/device_channel.h"
#include "offload/activations/activation_store.h"
#include "stage/departures.h"
#include "stage/decoder.h"
#include "stage/pass_inbox.h"
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
  void begin_pass(const Pass& pass);
  void begin_cache(const Pass& pass);
  void fill_indices(const Pass& pass);
  void upload_indices(const Pass& pass);
  void list_logit_rows(const Pass& pass);
  void add_logit_rows(const Pass& pass, std::int32_t row_index, const std::int32_t* tokens,
                      std::int32_t* rows, std::int32_t& count);
  void run_task(const Task& task, const Pass& pass, PassInbox& inbox);
  void run_acquire(const Task& task, const Pass& pass);
  void run_receive(const Task& task, const Pass& pass, PassInbox& inbox);
  void run_embed(const Task& task, const Pass& pass);
  void run_compute(const Task& task, const Pass& pass);
  void run_store_cache(const Task& task);
  void run_send(const Task& task, const Pass& pass);
  void send_to_device(std::int32_t gpu_batch);
  void run_logits(const Task& task, const Pass& pass);
  void upload_samples(const Pass& pass, std::size_t set, std::int32_t first, std::int32_t count);
  void take_logits_home(TensorView logits, std::size_t set);

  OpenBatch& opened(std::int32_t gpu_batch) { return open_[static_cast<std::size_t>(gpu_batch)]; }
  std::int64_t tokens_of(const Pass& pass, std::int32_t gpu_batch) const;
  std::size_t buffer_of(const Pass& pass, std::int32_t gpu_batch) const;
  /// Decoder layers of this stage count from 0 in the cache, after the embedding in the stream.
  std::int32_t cache_layer(const Task& task) const { return task.layer - (shape_.first ? 1 : 0); }
  void close(std::int32_t gpu_batch, bool keep, Event read_by = {});

  StageParts parts_;
  Backend& backend_;
  kernels::Ops& ops_;
  const bool overlaps_;  // Policy::overlap
  HiddenSender sender_;
  ResultSampler sampler_;
  Histories histories_;  // where this stage's device samples
  Outbox outbox_;

  ScheduleShape shape_;
  std::vector<Task> tasks_;
  offload::WeightStream::Lease lease_;
  std::vector<OpenBatch> open_;                              // by GPU batch
  std::vector<std::vector<offload::KvSequence>> sequences_;  // by GPU batch
  std::vector<std::int32_t> logit_first_, logit_count_;  // by GPU batch, in the sampler's source
  std::vector<Event> indices_read_;         // by buffer: host and device index arrays are free
  std::vector<std::uint64_t> sent_;         // by buffer: outbox ticket
  std::uint64_t finished_[2] = {0, 0};      // by pass number % 2: outbox ticket of kFinish
  std::uint64_t logits_taken_[2] = {0, 0};  // by set of host logits or results: outbox ticket
  Event logits_copied_;                     // device logits or results may be overwritten
  std::int64_t logits_used_ = 0;            // sets used so far
  Event vectors_free_[2];                   // query, keys and values of a set
  int set_ = 0;
};

}  // namespace sluice::stage
