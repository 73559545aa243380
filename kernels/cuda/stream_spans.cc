#include "kernels/cuda/stream_spans.h"

#include <cmath>
#include <cstdlib>

#include "kernels/cuda/check.h"

namespace sluice::cuda {

namespace {

/// A float of milliseconds holds an hour to a quarter of one: times are summed up from one event to
/// the next, never taken from the start.
std::int64_t nanoseconds_between(cudaEvent_t from, cudaEvent_t to) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, from, to), "cudaEventElapsedTime");
  return std::llround(static_cast<double>(milliseconds) * 1e6);
}

}  // namespace

unsigned waiting_flags() {
  const char* const spin = std::getenv("SLUICE_CUDA_SPIN");
  return spin != nullptr && spin[0] == '1' ? cudaEventDefault : cudaEventBlockingSync;
}

StreamSpans::StreamSpans(Activity activity, Trace* trace, cudaEvent_t clock_start,
                         std::int64_t clock_ns)
    : activity_(activity), trace_(trace), last_end_(clock_start), last_end_ns_(clock_ns) {
  if (trace_ == nullptr) return;
  for (Span& span : spans_) {
    check(cudaEventCreate(&span.begin), "cudaEventCreate");
    check(cudaEventCreateWithFlags(&span.end, waiting_flags()), "cudaEventCreateWithFlags");
  }
}

StreamSpans::~StreamSpans() {
  for (const Span& span : spans_) {
    if (span.begin != nullptr) cudaEventDestroy(span.begin);
    if (span.end != nullptr) cudaEventDestroy(span.end);
  }
}

void StreamSpans::begin(cudaStream_t stream) {
  if (trace_ == nullptr) return;
  // One stays free: the last one told is where the next one's time counts from.
  if (next_ - first_ == kSpans - 1) tell_first(true, kForEver);
  Span& span = spans_[next_ % kSpans];
  span.why = why_;
  why_ = Activity::stall_other;
  const Trace::Waited now = trace_->waited();
  for (std::size_t i = 0; i < now.size(); ++i) span.waited[i] = now[i] - waited_[i];
  waited_ = now;
  check(cudaEventRecord(span.begin, stream), "cudaEventRecord");
}

void StreamSpans::end(cudaStream_t stream) {
  if (trace_ == nullptr) return;
  check(cudaEventRecord(spans_[next_ % kSpans].end, stream), "cudaEventRecord");
  ++next_;
}

/// False: it has not ended, or not before `until_ns`.
bool StreamSpans::tell_first(bool wait, std::int64_t until_ns) {
  const Span& span = spans_[first_ % kSpans];
  if (wait) {
    check(cudaEventSynchronize(span.end), "cudaEventSynchronize");
  } else if (const cudaError_t status = cudaEventQuery(span.end); status == cudaErrorNotReady) {
    return false;
  } else {
    check(status, "cudaEventQuery");
  }
  const std::int64_t begin_ns = last_end_ns_ + nanoseconds_between(last_end_, span.begin);
  const std::int64_t end_ns = begin_ns + nanoseconds_between(span.begin, span.end);
  if (end_ns > until_ns) return false;
  if (activity_ == Activity::compute && begin_ns > last_end_ns_) {
    trace_->add_stall(last_end_ns_, begin_ns, span.why, span.waited);
  }
  trace_->add(activity_, begin_ns, end_ns);
  last_end_ = span.end;
  last_end_ns_ = end_ns;
  ++first_;
  return true;
}

void StreamSpans::collect(std::int64_t until_ns) {
  while (first_ < next_ && tell_first(false, until_ns)) {
  }
}

}  // namespace sluice::cuda
