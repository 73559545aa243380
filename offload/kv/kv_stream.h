// History on its way to the device. Each of two staging buffers holds the streamed sequences of one
// (layer, GPU batch): the next one is fetched while the present one is attended.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/device/trace.h"
#include "kernels/ops.h"
#include "offload/kv/kv_disk.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_tables.h"

namespace sluice::offload {

/// When the new tokens of (slot, layer) were last appended in host memory, on Lane::host_compute.
class KvAppended {
 public:
  explicit KvAppended(const KvLayout& layout)
      : slots_(static_cast<std::size_t>(layout.shape.slots)),
        events_(layout.uses_rows() ? slots_ * static_cast<std::size_t>(layout.shape.layers) : 0) {}
  Event& at(std::int32_t slot, std::int32_t layer) {
    return events_[static_cast<std::size_t>(layer) * slots_ + static_cast<std::size_t>(slot)];
  }

 private:
  std::size_t slots_;
  std::vector<Event> events_;
};

class KvStream {
 public:
  /// `disk` may be null where no slot lives on disk. `overlaps`: Policy::overlap. All references
  /// must outlive it. One thread calls.
  KvStream(Backend& backend, const KvLayout& layout, const KvMemory& memory, KvAppended& appended,
           KvDisk* disk, bool overlaps, Trace* trace)
      : backend_(backend),
        layout_(layout),
        memory_(memory),
        appended_(appended),
        disk_(disk),
        overlaps_(overlaps),
        trace_(trace) {}

  /// Starts to fetch the step's history of `layer`, once; blocks only for the disk: for the read
  /// buffer, and without overlap for the whole read. At most two
  /// fetches may be under way; a third is our own bug and throws Error.
  void fetch(const KvStep& step, std::int32_t layer);

  /// Makes Lane::compute wait for the step's history of `layer`; calls fetch() if nobody did.
  /// Returns the staging buffer, whose pages have the numbers of the step's `streamed` table.
  std::byte* open(const KvStep& step, std::int32_t layer);
  /// To be called when the last work that reads the buffer of open() is on Lane::compute.
  void close(const KvStep& step, std::int32_t layer);

  /// Puts copies of what the disk has read on the lane. Never blocks.
  void poll();

 private:
  struct Buffer {
    const KvStep* step = nullptr;  // null: free
    std::int32_t layer = -1;
    bool reading = false;
    Event fetched;  // on Lane::host_to_device
    Event used;     // on Lane::compute
  };

  Buffer* find(const KvStep& step, std::int32_t layer);
  std::int32_t index_of(const Buffer& buffer) const;
  void await_appended(const KvStep& step, std::int32_t layer);
  void copy_host_pages(const KvStep& step, std::int32_t layer, std::byte* target);
  void await_read(Buffer& buffer);
  void copy_after_read(Buffer& buffer);

  Backend& backend_;
  const KvLayout& layout_;
  const KvMemory& memory_;
  KvAppended& appended_;
  KvDisk* disk_;
  bool overlaps_;
  Trace* trace_;
  std::array<Buffer, 2> buffers_;
  std::size_t next_ = 0;
};

}  // namespace sluice::offload
