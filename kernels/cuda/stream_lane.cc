#include "kernels/cuda/stream_lane.h"

#include "kernels/cuda/check.h"

namespace sluice::cuda {

StreamLane::StreamLane(Activity activity, Trace* trace, cudaEvent_t clock_start,
                       std::int64_t clock_ns)
    : spans_(activity, trace, clock_start, clock_ns) {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  for (cudaEvent_t& event : events_) {
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | waiting_flags()),
          "cudaEventCreateWithFlags");
  }
}

StreamLane::~StreamLane() {
  // A failed device fails here, too; whoever uses it has been told.
  cudaStreamSynchronize(stream_);
  for (const cudaEvent_t event : events_) {
    if (event != nullptr) cudaEventDestroy(event);
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

// An event's place can be given to a later ticket between the look and the call, after thousands of
// tickets. The call then waits for a later point of the same stream: longer than it must.

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

void StreamLane::expect(Activity why) {
  const std::lock_guard lock(putting_);
  spans_.expect(why);
}

std::int64_t StreamLane::collect(std::int64_t until_ns) {
  const std::unique_lock lock(putting_, std::try_to_lock);
  if (!lock.owns_lock()) return 0;
  spans_.collect(until_ns);
  return spans_.known_ns();
}

}  // namespace sluice::cuda
