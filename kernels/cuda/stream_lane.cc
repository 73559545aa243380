#include "kernels/cuda/stream_lane.h"

#include "kernels/cuda/check.h"

namespace sluice::cuda {

StreamLane::StreamLane(Activity activity, Trace* trace, cudaEvent_t clock_start,
                       std::int64_t clock_ns)
    : activity_(activity), trace_(trace), clock_start_(clock_start), clock_ns_(clock_ns) {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  // Blocking: a waiting host thread sleeps, so that the ranks of a host do not steal cores.
  constexpr unsigned kFlags = cudaEventDisableTiming | cudaEventBlockingSync;
  for (cudaEvent_t& event : events_) {
    check(cudaEventCreateWithFlags(&event, kFlags), "cudaEventCreateWithFlags");
  }
  if (trace_ == nullptr) return;
  for (Span& span : spans_) {
    check(cudaEventCreate(&span.begin), "cudaEventCreate");
    check(cudaEventCreate(&span.end), "cudaEventCreate");
  }
}

StreamLane::~StreamLane() {
  // A failed device fails here, too; whoever uses it has been told.
  cudaStreamSynchronize(stream_);
  for (const cudaEvent_t event : events_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  for (const Span& span : spans_) {
    if (span.begin != nullptr) cudaEventDestroy(span.begin);
    if (span.end != nullptr) cudaEventDestroy(span.end);
  }
  cudaStreamDestroy(stream_);
}

std::uint64_t StreamLane::record() {
  const std::lock_guard lock(mutex_);
  const std::uint64_t ticket = recorded_ + 1;
  if (ticket > kEvents && !is_past(ticket - kEvents)) {
    check(cudaEventSynchronize(event_of(ticket)), "cudaEventSynchronize");
    done_ = ticket - kEvents;
  }
  check(cudaEventRecord(event_of(ticket), stream_), "cudaEventRecord");
  recorded_ = ticket;
  return ticket;
}

void StreamLane::hold(cudaStream_t waiter, std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  if (is_past(ticket)) return;
  check(cudaStreamWaitEvent(waiter, event_of(ticket), 0), "cudaStreamWaitEvent");
}

bool StreamLane::done(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  if (is_past(ticket)) return true;
  const cudaError_t status = cudaEventQuery(event_of(ticket));
  if (status == cudaErrorNotReady) return false;
  check(status, "cudaEventQuery");
  done_ = ticket;
  return true;
}

void StreamLane::synchronize(std::uint64_t ticket) {
  cudaEvent_t event = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (is_past(ticket)) return;
    event = event_of(ticket);
  }
  // Without the lock. If the place is given on meanwhile, this waits for a later ticket: longer
  // than it must, and still for a point of the same stream.
  check(cudaEventSynchronize(event), "cudaEventSynchronize");
  const std::lock_guard lock(mutex_);
  if (ticket > done_) done_ = ticket;
}

std::size_t StreamLane::begin_span() {
  if (trace_ == nullptr) return kSpans;
  const std::size_t span = next_span_ % kSpans;
  if (spans_[span].open) finish(spans_[span], true);
  if (next_span_ - first_span_ >= kSpans) first_span_ = next_span_ - kSpans + 1;
  check(cudaEventRecord(spans_[span].begin, stream_), "cudaEventRecord");
  return span;
}

void StreamLane::end_span(std::size_t span) {
  if (span == kSpans) return;
  check(cudaEventRecord(spans_[span].end, stream_), "cudaEventRecord");
  spans_[span].open = true;
  ++next_span_;
}

/// False: it is not done, and `wait` did not ask to wait.
bool StreamLane::finish(Span& span, bool wait) {
  if (wait) {
    check(cudaEventSynchronize(span.end), "cudaEventSynchronize");
  } else if (const cudaError_t status = cudaEventQuery(span.end); status == cudaErrorNotReady) {
    return false;
  } else {
    check(status, "cudaEventQuery");
  }
  float begin_ms = 0;
  float end_ms = 0;
  check(cudaEventElapsedTime(&begin_ms, clock_start_, span.begin), "cudaEventElapsedTime");
  check(cudaEventElapsedTime(&end_ms, clock_start_, span.end), "cudaEventElapsedTime");
  const auto at = [this](float ms) {
    return clock_ns_ + static_cast<std::int64_t>(static_cast<double>(ms) * 1e6);
  };
  trace_->add(activity_, at(begin_ms), at(end_ms));
  span.open = false;
  return true;
}

void StreamLane::collect() {
  const std::lock_guard lock(mutex_);
  while (first_span_ < next_span_ && spans_[first_span_ % kSpans].open) {
    if (!finish(spans_[first_span_ % kSpans], false)) return;
    ++first_span_;
  }
}

}  // namespace sluice::cuda
