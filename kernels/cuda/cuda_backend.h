// One GPU as a device: every lane is a stream but host_compute, a thread beside it, which attends
// to host-resident KV.
//
// Streams cannot wait for an event that is not recorded yet, nor for a host thread's work. The
// first never happens here: an Event is made by record(). For the second the host lane writes the
// ticket it has reached to a word of pinned memory, which the stream waits for (cuStreamWaitValue);
// and the other way round a stream writes a word that the host lane looks at. The host lane calls
// nothing of CUDA: a thread that puts work may hold the driver's lock until the GPU gets on, and
// the GPU may be waiting for the host lane.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "kernels/cuda/call_graphs.h"
#include "kernels/cuda/kernel_runner.h"
#include "kernels/cuda/stream_lane.h"
#include "kernels/device/backend.h"
#include "kernels/device/cpu_backend.h"
#include "kernels/device/stall_reason.h"
#include "kernels/device/trace.h"

namespace sluice::cuda {

/// Events and words that must go after the lanes that use them.
struct ClockEvent {
  ClockEvent();
  ~ClockEvent();
  ClockEvent(const ClockEvent&) = delete;
  ClockEvent& operator=(const ClockEvent&) = delete;
  cudaEvent_t event = nullptr;
};

class CudaBackend final : public Backend {
 public:
  /// `device` is current on the calling thread; `threads` of the host first write pinned memory.
  /// `trace` may be null, else must outlive the backend.
  CudaBackend(BackendInfo info, int device, int threads, Trace* trace);
  ~CudaBackend() override;

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
  void* stream(Lane lane) override;

  /// Puts an operation on the compute lane. It is collected with those before it, and goes to the
  /// stream with them when something must come after it: a copy, an event, a wait.
  void compute(const OpCall& call);
  /// What became of them so far.
  CallGraphs::Counts graph_counts();
  /// The lane beside the GPU; only Lane::host_compute of it is used.
  CpuBackend& host() { return host_; }

 private:
  void use_device();
  void put_pending(Lane lane);
  StreamLane& lane(Lane lane) { return *streams_[static_cast<std::size_t>(lane)]; }
  void wait_for_host(Lane lane, Event event);
  void let_host_wait(Event event);
  void watch_gpu_until(Event of_host);
  std::uint64_t* word_of(Lane lane) const { return reached_ + static_cast<std::size_t>(lane); }

  BackendInfo info_;
  int device_;
  int threads_;
  Trace* trace_;
  // cuStreamWaitValue64 and cuStreamWriteValue64. Null where the device has no such operations of
  // 64 bits: the thread that puts work waits itself then.
  void* wait_value_ = nullptr;
  void* write_value_ = nullptr;
  StallReason stall_reason_;
  CpuBackend host_;
  std::atomic<bool> pins_all_{true};  // the host memory it gave out
  std::unique_ptr<ClockEvent> clock_;
  std::array<std::unique_ptr<StreamLane>, kDeviceLaneCount> streams_;  // none: host_compute
  std::unique_ptr<KernelRunner> runner_;
  std::mutex pending_mutex_;
  std::unique_ptr<CallGraphs> graphs_;
  // Pinned: [kDeviceLaneCount] how far streams got, of marks_; at host_compute the host's ticket.
  std::uint64_t* reached_ = nullptr;
  std::array<std::uint64_t, kDeviceLaneCount> marks_ = {};
  std::mutex marks_mutex_;
  std::atomic<bool> failed_{false};  // the GPU: nobody need wait for it any more
  std::mutex host_mutex_;
};

}  // namespace sluice::cuda
