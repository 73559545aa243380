// When a stream was at work, for the trace: an event before and one after each piece of work, read
// when they have happened. Of the compute lane also when it stood still, and why.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/device/trace.h"

namespace sluice::cuda {

/// Of events that host threads wait for: they sleep, so that the ranks of a host do not steal cores
/// from each other; with SLUICE_CUDA_SPIN=1 in the environment they spin.
unsigned waiting_flags();

/// One thread at a time, with the stream's device current.
class StreamSpans {
 public:
  static constexpr std::int64_t kForEver = std::numeric_limits<std::int64_t>::max();

  /// `clock_start`: an event that was recorded when the trace read `clock_ns`; both only with a
  /// trace. `trace` may be null: then nothing here does anything; else must outlive this.
  StreamSpans(Activity activity, Trace* trace, cudaEvent_t clock_start, std::int64_t clock_ns);
  ~StreamSpans();
  StreamSpans(const StreamSpans&) = delete;
  StreamSpans& operator=(const StreamSpans&) = delete;

  /// Around what is put on the stream. begin() blocks where hundreds are not done.
  void begin(cudaStream_t stream);
  void end(cudaStream_t stream);
  /// What the next work waits for: if the stream stands still before it, that is why.
  void expect(Activity why) { why_ = why; }

  /// Tells the trace of what has ended by now, in order, and not after `until_ns`.
  void collect(std::int64_t until_ns = kForEver);
  /// Up to when everything was told.
  std::int64_t known_ns() const { return last_end_ns_; }

 private:
  static constexpr std::size_t kSpans = 512;
  struct Span {
    cudaEvent_t begin = nullptr;
    cudaEvent_t end = nullptr;
    Activity why = Activity::stall_other;
    Trace::Waited waited = {};  // by the executor, since the span before was put
  };

  bool tell_first(bool wait, std::int64_t until_ns);

  Activity activity_;
  Trace* trace_;
  cudaEvent_t last_end_;  // of the last one told; at first the clock's start
  std::int64_t last_end_ns_;
  std::array<Span, kSpans> spans_;
  std::size_t first_ = 0;  // the oldest that was not told
  std::size_t next_ = 0;
  Activity why_ = Activity::stall_other;
  Trace::Waited waited_ = {};
};

}  // namespace sluice::cuda
