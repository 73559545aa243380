// The CPU as a device: four lanes, each a thread; "device memory" is a mapping like any other.
//
// A real backend, not a mock: copies run beside compute on threads of their own, as DMA engines do,
// and the schedule above cannot tell the difference.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "kernels/device/backend.h"
#include "kernels/device/first_failure.h"
#include "kernels/device/lane_queue.h"
#include "kernels/device/rate_limit.h"
#include "kernels/device/stall_reason.h"
#include "kernels/device/trace.h"

namespace sluice {

/// Of the copying lanes, in 10^9 bytes per second; 0: as fast as memory is. A lane does nothing
/// else while its link is busy, and sleeps: computing has the cores meanwhile.
struct CopyLimits {
  double host_to_device_gbps = 0;
  double device_to_host_gbps = 0;
};

class CpuBackend final : public Backend {
 public:
  /// `trace` may be null, else must outlive the backend. Throws DeviceError without threads.
  CpuBackend(BackendInfo info, Trace* trace, const CopyLimits& limits = {});
  ~CpuBackend() override;  // does everything that was put on the lanes

  const BackendInfo& info() const override { return info_; }
  Memory allocate_device(std::size_t bytes) override;
  Memory allocate_host(std::size_t bytes, bool pinned) override;
  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override;
  void call(Lane lane, void (*function)(void*), void* argument) override;
  Event record(Lane lane) override;
  void wait(Lane lane, Event event) override;
  void expect_stall(Activity why) override { stall_reason_.expect(why); }
  bool done(Event event) override;
  void synchronize(Event event) override;

  /// Puts `work()` (trivially copyable, at most LaneQueue::kArgumentBytes) on `lane`. What it
  /// throws comes out of synchronize().
  template <class Work>
  void put(Lane lane, const Work& work) {
    queue(lane).put(work);
  }
  /// Blocks until the lane has done everything put so far, well or not.
  void drain(Lane lane);

 private:
  LaneQueue& queue(Lane lane) { return *queues_[static_cast<std::size_t>(lane)]; }
  RateLimit* limit_of(Lane lane);
  void check(Event event);

  BackendInfo info_;
  Trace* trace_;
  StallReason stall_reason_;
  FirstFailure failure_;
  RateLimit to_device_;  // each used by its lane alone
  RateLimit to_host_;
  std::array<std::unique_ptr<LaneQueue>, kLaneCount> queues_;
};

/// `bytes` of zeroed memory, 4096-byte aligned, 2 MiB aligned and in huge pages where it is large
/// and the kernel grants them. Empty for 0 bytes. Throws CapacityError, naming `purpose` and the
/// bytes wanted and there. The pages come into being when they are first written.
Memory map_memory(std::size_t bytes, const char* purpose);
/// Gives back what map_memory() gave and Memory::release() let go. `data` may be null.
void unmap_memory(void* data, std::size_t bytes);

}  // namespace sluice
