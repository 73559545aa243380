// What each task of a schedule comes after. The rule is one: tasks name the buffers that they read
// and write (a slot of the weight ring, a staging buffer, a set of vectors, a message's buffer),
// and whoever touches a buffer comes after those whose use of it clashes. A test shows that the
// events and waits on the device's lanes make exactly this order.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "stage/schedule.h"

namespace sluice::stage {

/// Who puts a task on its resource. Tasks of a queue are done in the order of the list; between
/// queues there are only edges.
enum class Queue : std::uint8_t {
  none,
  // Of the executor's thread. What it issues comes after every await before it in the list.
  disk,
  cache_writes,  // pages that are full: no read of others waits for them
  host_to_device,
  cache_to_device,  // where pages come from disk: their copies are issued when the disk is done
  device_to_host,
  compute,
  host_compute,
  send,
  receive,
  // Of threads of their own.
  weight_disk,
  weight_copies,
  hidden_disk,
  hidden_to_device,
  hidden_to_host,
  outbox,
};
constexpr std::size_t kQueueCount = 16;
Queue queue_of(const Task& task, const ScheduleShape& shape);
constexpr bool is_executors(Queue queue) { return queue >= Queue::disk && queue <= Queue::receive; }

/// Remembers who used which buffer last, from pass to pass.
class ScheduleEdges {
 public:
  /// `gpu_batches` of a micro-batch; `shape` as for any pass.
  ScheduleEdges(const ScheduleShape& shape, std::int32_t gpu_batches, std::int32_t micro_batches);

  /// Fills in Task::after of the next pass. `tasks` as build_schedule() made them of `shape`.
  void add(const ScheduleShape& shape, std::span<Task> tasks);

 private:
  struct Reference {
    std::int64_t pass = -1;
    std::int32_t task = -1;
  };
  /// The last use of a buffer by each queue, since it was last written.
  struct Buffer {
    Queue writer = Queue::none;
    std::array<Reference, kQueueCount> uses;
  };
  /// Two buffers of a GPU batch, which passes take in turn.
  using Pair = std::array<Buffer, 2>;
  struct HiddenBuffer {
    Buffer buffer;
    std::int32_t gpu_batch = -1;
    std::int64_t taken = 0;
  };
  /// Of the cache: pages of one layer of a GPU batch, on their way to the device or to disk.
  struct Staging {
    Buffer buffer;
    std::int64_t content = -1;  // key_of() what is in it; -1: nothing
    Reference read;             // from disk, for the next fetch; -1: nothing is
    Reference fetched;
  };

  void add_task(Task& task);
  void add_await(Task& task);
  void add_compute(Task& task);
  void add_moves(Task& task);
  void append_cache(Task& task);
  void finish_lanes(Task& task);

  void read(Task& task, Buffer& buffer);
  void write(Task& task, Buffer& buffer);
  void wait_free(Task& task, Buffer& buffer);
  void wait_for(Task& task, Reference reference);
  bool streams(const Task& task) const;
  void leave_hidden(const Task& task);

  std::size_t batch_of(const Task& task) const;
  const GpuBatchShape& batch(const Task& task) const {
    return shape_->gpu_batches[static_cast<std::size_t>(task.gpu_batch)];
  }
  Buffer& weight_staging(std::int64_t item) {
    return weight_staging_[static_cast<std::size_t>(item) % weight_staging_.size()];
  }
  Reference& released(std::int64_t item) {
    return released_[static_cast<std::size_t>(item) % released_.size()];
  }
  void wait_for_place(Task& task);
  Buffer& vectors() { return vectors_[static_cast<std::size_t>(vector_sets_ % 2)]; }
  Buffer& rows() { return rows_[static_cast<std::size_t>(row_sets_ % 2)]; }
  Buffer& host_logits() { return host_logits_[static_cast<std::size_t>(logit_sets_ % 2)]; }
  Buffer& tables(const Task& task);
  Buffer& of_pass(std::vector<Pair>& pairs, const Task& task);
  std::int64_t key_of(const Task& task) const;
  Staging& staging_of(const Task& task);
  void settle(Task& task, bool next);
  HiddenBuffer& holder_of(const Task& task);
  Buffer& hidden_of(const Task& task) { return holder_of(task).buffer; }
  Buffer& take_hidden(const Task& task);

  const std::int32_t gpu_batches_;
  const ScheduleShape* shape_ = nullptr;
  std::int64_t pass_ = -1;
  std::int32_t index_ = 0;

  std::array<Reference, kQueueCount> last_;  // task of each queue
  std::vector<Reference> released_;          // by item of the weight ring: its release
  Reference loaded_;                         // copies of the last item
  Reference last_released_;
  Reference leased_;  // copies of the group that was leased just now
  std::vector<Buffer> weight_staging_;
  std::int64_t item_ = -1;                // streamed group, counted for ever
  std::array<Staging, 2> staging_;        // of the cache, on the device
  std::array<Staging, 2> write_staging_;  // ... and of pages that are full, on the host
  std::size_t next_staging_ = 0, next_write_ = 0;
  std::array<Buffer, 2> vectors_;
  std::array<Buffer, 2> rows_;
  std::array<Buffer, 2> host_logits_;
  std::array<Buffer, 2> lists_;  // of wanted rows, by pass
  Buffer device_logits_;
  std::int64_t vector_sets_ = 0, row_sets_ = 0, logit_sets_ = 0;  // used so far
  std::vector<HiddenBuffer> hidden_;
  std::int64_t hidden_takes_ = 0;
  std::vector<Buffer> homes_;    // by GPU batch
  std::vector<Reference> read_;  // hidden states from disk, for the next fetch; by GPU batch
  std::vector<Pair> tables_, indices_, received_, outgoing_;  // by GPU batch
  std::vector<std::int64_t> begun_;                           // passes, by GPU batch
  std::vector<Reference> appended_;                           // by layer, micro-batch and GPU batch
  Reference appended_before_;                                 // by any of them, before this pass
};

}  // namespace sluice::stage
