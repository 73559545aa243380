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

void StreamLane::mark_done(std::uint64_t ticket) {
  std::uint64_t known = done_.load();
  while (known < ticket && !done_.compare_exchange_weak(known, ticket)) {
  }
}

std::uint64_t StreamLane::record() {
  const std::lock_guard lock(putting_);
  const std::uint64_t ticket = recorded_ + 1;
  if (ticket > kEvents && !is_past(ticket - kEvents)) {
    check(cudaEventSynchronize(event_of(ticket)), "cudaEventSynchronize");
    mark_done(ticket - kEvents);
  }
  check(cudaEventRecord(event_of(ticket), stream_), "cudaEventRecord");
  recorded_ = ticket;
  return ticket;
}

// If an event's place is given on between the look and the call, which takes thousands of tickets,
// the call waits for a later point of the same stream: longer than it must.

void StreamLane::hold(cudaStream_t waiter, std::uint64_t ticket) {
  if (is_past(ticket)) return;
  check(cudaStreamWaitEvent(waiter, event_of(ticket), 0), "cudaStreamWaitEvent");
}

bool StreamLane::done(std::uint64_t ticket) {
  if (is_past(ticket)) return true;
  const cudaError_t status = cudaEventQuery(event_of(ticket));
  if (status == cudaErrorNotReady) return false;
  check(status, "cudaEventQuery");
  mark_done(ticket);
  return true;
}

void StreamLane::synchronize(std::uint64_t ticket) {
  if (is_past(ticket)) return;
  check(cudaEventSynchronize(event_of(ticket)), "cudaEventSynchronize");
  mark_done(ticket);
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
  float length_ms = 0;
  float end_ms = 0;
  // A float holds an hour to a quarter of a millisecond: enough for when, too little for how long.
  check(cudaEventElapsedTime(&length_ms, span.begin, span.end), "cudaEventElapsedTime");
  check(cudaEventElapsedTime(&end_ms, clock_start_, span.end), "cudaEventElapsedTime");
  const auto ns = [](float ms) { return static_cast<std::int64_t>(static_cast<double>(ms) * 1e6); };
  const std::int64_t end = clock_ns_ + ns(end_ms);
  trace_->add(activity_, end - ns(length_ms), end);
  span.open = false;
  return true;
}

void StreamLane::collect() {
  const std::unique_lock lock(putting_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  while (first_span_ < next_span_ && spans_[first_span_ % kSpans].open) {
    if (!finish(spans_[first_span_ % kSpans], false)) return;
    ++first_span_;
  }
}

}  // namespace sluice::cuda
