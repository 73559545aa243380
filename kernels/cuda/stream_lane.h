// A lane that is a CUDA stream: tickets are events of a ring, recorded in order.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "kernels/cuda/stream_spans.h"
#include "kernels/device/trace.h"

namespace sluice::cuda {

/// Any thread may call, with the stream's device current. A ticket that has left the ring is long
/// past, because its place was given on only when it was done.
///
/// Putting work blocks where the driver's queue is full, until the GPU gets on; and that may be
/// waiting for a host thread which asks for tickets. So tickets are looked at without a lock.
class StreamLane {
 public:
  /// `clock_start`: an event that was recorded when the trace read `clock_ns`; both only with a
  /// trace. `trace` may be null, else must outlive the lane.
  StreamLane(Activity activity, Trace* trace, cudaEvent_t clock_start, std::int64_t clock_ns);
  ~StreamLane();  // waits for the stream
  StreamLane(const StreamLane&) = delete;
  StreamLane& operator=(const StreamLane&) = delete;

  cudaStream_t stream() const { return stream_; }

  /// A ticket for everything put so far. Blocks only where thousands of tickets are not done.
  std::uint64_t record();
  /// Makes `waiter` wait for `ticket` of this lane.
  void hold(cudaStream_t waiter, std::uint64_t ticket);
  bool done(std::uint64_t ticket);
  void synchronize(std::uint64_t ticket);

  /// Runs `put(stream)`, which puts work on the stream, and adds the time it takes there to the
  /// trace, once it is done.
  template <class Put>
  void timed(const Put& put) {
    const std::lock_guard lock(putting_);
    spans_.begin(stream_);
    put(stream_);
    spans_.end(stream_);
  }
  /// What the next work will wait for.
  void expect(Activity why);
  /// Adds what is done by now and ended before `until_ns`, where nobody is putting work. Returns up
  /// to when everything was added.
  std::int64_t collect(std::int64_t until_ns = StreamSpans::kForEver);

 private:
  static constexpr std::size_t kEvents = 4096;
  cudaEvent_t event_of(std::uint64_t ticket) { return events_[ticket % kEvents]; }
  bool is_past(std::uint64_t ticket) const { return ticket <= done_.load(); }
  void mark_done(std::uint64_t ticket);

  cudaStream_t stream_ = nullptr;
  std::mutex putting_;  // the order of the stream; guards what follows but done_
  std::array<cudaEvent_t, kEvents> events_ = {};
  std::uint64_t recorded_ = 0;
  std::atomic<std::uint64_t> done_{0};  // every ticket up to here is
  StreamSpans spans_;
};

}  // namespace sluice::cuda
