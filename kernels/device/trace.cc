#include "kernels/device/trace.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <tuple>

namespace sluice {

const char* name_of(Activity activity) {
  static constexpr const char* kNames[kActivityCount] = {"compute",
                                                         "host compute",
                                                         "host to device",
                                                         "device to host",
                                                         "disk read",
                                                         "disk write",
                                                         "send",
                                                         "receive",
                                                         "wait weights",
                                                         "wait KV",
                                                         "wait activations",
                                                         "idle",
                                                         "stall weights",
                                                         "stall KV",
                                                         "stall activations",
                                                         "stall host compute",
                                                         "stall results",
                                                         "stall message",
                                                         "stall pass",
                                                         "stall other"};
  return kNames[static_cast<int>(activity)];
}

namespace {

/// What the executor waits for, and what that makes of the compute lane's empty queue.
struct Cause {
  Activity wait;
  Activity stall;
};
constexpr Cause kCauses[] = {{Activity::wait_weights, Activity::stall_weights},
                             {Activity::wait_kv, Activity::stall_kv},
                             {Activity::wait_activations, Activity::stall_activations},
                             {Activity::send, Activity::stall_message},
                             {Activity::receive, Activity::stall_message},
                             {Activity::idle, Activity::stall_pass}};

static_assert(std::size(kCauses) == std::tuple_size_v<Trace::Waited>);

/// The compute lane's own: never exposed, or nothing else.
bool is_of_compute_lane(Activity activity) {
  return activity == Activity::compute || activity >= Activity::stall_weights;
}

}  // namespace

Trace::Trace(std::size_t max_spans)
    : start_(Clock::now()),
      spans_(max_spans > 0 ? std::make_unique<Span[]>(max_spans) : nullptr),
      capacity_(max_spans) {}

std::int64_t Trace::now_ns() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
}

void Trace::add(Activity activity, std::int64_t begin_ns, std::int64_t end_ns, std::int32_t pass,
                std::int32_t layer) {
  if (!is_of_compute_lane(activity)) {
    exposed_ns_[static_cast<int>(activity)].fetch_add(
        stalls_.until(end_ns) - stalls_.until(begin_ns), std::memory_order_relaxed);
  }
  take(activity, begin_ns, end_ns, pass, layer);
}

void Trace::take(Activity activity, std::int64_t begin_ns, std::int64_t end_ns, std::int32_t pass,
                 std::int32_t layer) {
  busy_ns_[static_cast<int>(activity)].fetch_add(end_ns - begin_ns, std::memory_order_relaxed);
  if (capacity_ == 0) return;
  const std::uint64_t index = count_.fetch_add(1, std::memory_order_relaxed);
  if (index < capacity_) spans_[index] = {activity, pass, layer, begin_ns, end_ns};
}

void Trace::add_bytes(Activity activity, std::uint64_t bytes) {
  bytes_[static_cast<int>(activity)].fetch_add(bytes, std::memory_order_relaxed);
}

Trace::Waited Trace::waited() const {
  Waited waited = {};
  for (std::size_t i = 0; i < waited.size(); ++i) {
    waited[i] = busy_ns_[static_cast<int>(kCauses[i].wait)].load(std::memory_order_relaxed);
  }
  return waited;
}

void Trace::begin_stall() {
  stall_begin_ns_ = now_ns();
  stalls_.begin(stall_begin_ns_);
  waited_ = waited();
}

void Trace::end_stall(Activity why) {
  const std::int64_t end_ns = now_ns();
  stalls_.end(end_ns);
  take(why, stall_begin_ns_, end_ns, -1, -1);
}

void Trace::end_starvation() {
  const std::int64_t end_ns = now_ns();
  stalls_.end(end_ns);
  Waited meanwhile = waited();
  for (std::size_t i = 0; i < meanwhile.size(); ++i) meanwhile[i] -= waited_[i];
  take_starvation(stall_begin_ns_, end_ns, meanwhile);
}

void Trace::add_stall(std::int64_t begin_ns, std::int64_t end_ns, Activity why,
                      const Waited& waited) {
  stalls_.begin(begin_ns);
  stalls_.end(end_ns);
  if (why == Activity::stall_other) return take_starvation(begin_ns, end_ns, waited);
  take(why, begin_ns, end_ns, -1, -1);
}

void Trace::take_starvation(std::int64_t begin_ns, std::int64_t end_ns, const Waited& waited) {
  const std::int64_t length_ns = end_ns - begin_ns;
  const std::int64_t waited_ns = std::accumulate(waited.begin(), waited.end(), std::int64_t{0});
  // The first of these waits may have begun while the lane still had work: no more than its share.
  const double part =
      waited_ns > length_ns ? static_cast<double>(length_ns) / static_cast<double>(waited_ns) : 1.0;
  for (std::size_t i = 0; i < waited.size(); ++i) {
    if (waited[i] == 0) continue;
    const std::int64_t until_ns = std::min(
        begin_ns + static_cast<std::int64_t>(part * static_cast<double>(waited[i])), end_ns);
    take(kCauses[i].stall, begin_ns, until_ns, -1, -1);
    begin_ns = until_ns;
  }
  if (begin_ns < end_ns) take(Activity::stall_other, begin_ns, end_ns, -1, -1);
}

double Trace::exposed_seconds(Activity activity) const {
  return 1e-9 * static_cast<double>(exposed_ns_[static_cast<int>(activity)].load());
}

double Trace::busy_seconds(Activity activity) const {
  return 1e-9 * static_cast<double>(busy_ns_[static_cast<int>(activity)].load());
}

std::uint64_t Trace::bytes(Activity activity) const {
  return bytes_[static_cast<int>(activity)].load();
}

std::vector<Span> Trace::spans() const {
  const auto kept = static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(count_, capacity_));
  return kept > 0 ? std::vector<Span>(spans_.get(), spans_.get() + kept) : std::vector<Span>();
}

std::uint64_t Trace::dropped_spans() const { return count_ > capacity_ ? count_ - capacity_ : 0; }

}  // namespace sluice
