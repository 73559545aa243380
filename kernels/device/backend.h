// What a device must offer: memory, lanes (in-order queues of work) and events between lanes.
//
// A backend has one lane of each kind. Work put on a lane is done in the order it was put there;
// lanes run beside each other, and the only order between them is made by events. On a GPU a lane
// is a stream (host_compute: a thread); on the CPU backend it is a thread, so that the schedule is
// the same everywhere. Any thread may put work on a lane; nothing here allocates after start-up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "kernels/device/dtype.h"
#include "kernels/device/trace.h"

namespace sluice {

enum class Lane : std::uint8_t {
  compute,
  host_to_device,
  device_to_host,
  host_compute,
  // Messages between devices, put there by who has their stream(); only where there is one.
  send,
  receive
};
constexpr int kLaneCount = 4;        // that every backend has: the first ones
constexpr int kDeviceLaneCount = 6;  // ... and with those of messages
const char* name_of(Lane lane);
/// What a lane's time counts as.
Activity activity_of(Lane lane);

/// A point on a lane. A default event is long past. Cheap to copy; valid for the backend's
/// lifetime. Once done, always done.
struct Event {
  Lane lane = Lane::compute;
  std::uint64_t ticket = 0;
};

struct BackendInfo {
  std::string kind;                  // "cpu", "cuda"
  std::string description;           // "cpu (avx512, 2 threads)": printed once per rank
  DType compute_dtype = DType::f32;  // dtype of activations on this device
  int threads = 1;                   // of the compute lane; 0 on a GPU
  /// PCI id, blank, UUID: instances of one GPU (MIG) share only the PCI id. Empty on the CPU.
  std::string device_id;
  /// Of a device with memory of its own: all of it, and what was free when the engine was made, its
  /// workspace_bytes counted as free.
  std::uint64_t device_bytes = 0;
  std::uint64_t device_free_bytes = 0;
  /// Device memory that the engine took for itself, beside the arenas.
  std::uint64_t workspace_bytes = 0;
  bool loads_kernels = false;  // when a shape first comes, which stops other work
  bool samples = false;        // Ops::sample works
};

/// Move-only owner of one block of device or host memory, zeroed (on the CPU lazily); 4096-byte
/// aligned, or 256-byte on a GPU.
class Memory {
 public:
  using Deleter = void (*)(void* data, std::size_t bytes);
  Memory() = default;
  Memory(void* data, std::size_t bytes, Deleter deleter)
      : data_(data), bytes_(bytes), deleter_(deleter) {}
  Memory(Memory&& other) noexcept { swap(other); }
  Memory& operator=(Memory&& other) noexcept {
    swap(other);
    return *this;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (deleter_ != nullptr) deleter_(data_, bytes_);
  }
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const { return bytes_; }
  /// The block is the caller's from now on; this is empty.
  void* release() {
    bytes_ = 0;
    deleter_ = nullptr;
    return std::exchange(data_, nullptr);
  }

 private:
  void swap(Memory& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(deleter_, other.deleter_);
  }
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Deleter deleter_ = nullptr;
};

class Backend {
 public:
  virtual ~Backend() = default;  // waits for all lanes

  virtual const BackendInfo& info() const = 0;

  /// Throws CapacityError if the memory is not there. Called at start-up only.
  virtual Memory allocate_device(std::size_t bytes) = 0;
  virtual Memory allocate_host(std::size_t bytes, bool pinned) = 0;

  /// Puts a copy on `lane`. Both ranges must stay valid until an event recorded after it is done.
  virtual void copy(Lane lane, void* target, const void* source, std::size_t bytes) = 0;

  /// Puts a call of `function(argument)` on `lane`; for marks and tests. On a GPU: a host callback.
  /// `function` must be short, must not throw and must not call this backend.
  virtual void call(Lane lane, void (*function)(void*), void* argument) = 0;

  /// The point after everything put on `lane` so far.
  virtual Event record(Lane lane) = 0;
  /// Work put on `lane` after this call starts only when `event` is done. `event` must come from
  /// record(). Waiting for an event of the same lane is a no-op.
  virtual void wait(Lane lane, Event event) = 0;
  /// For the report: what Lane::compute stands still for if it does so in the next wait() put on
  /// it. Call compute_waits() (stall_reason.h), which does both.
  virtual void expect_stall(Activity /*why*/) {}

  virtual bool done(Event event) = 0;
  /// Blocks the calling thread until `event` is done. Throws DeviceError if work on a lane failed.
  virtual void synchronize(Event event) = 0;

  /// The lane as the device's own libraries know it, for those that put work there themselves
  /// (NCCL): a cudaStream_t of Lane::send or Lane::receive, null where there is none. Makes its
  /// device the calling thread's, which NCCL takes. Owned by the backend.
  virtual void* stream(Lane /*lane*/) { return nullptr; }
};

}  // namespace sluice
