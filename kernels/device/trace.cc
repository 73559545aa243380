#include "kernels/device/trace.h"

#include <algorithm>

namespace sluice {

const char* name_of(Activity activity) {
  static constexpr const char* kNames[kActivityCount] = {
      "compute",    "host compute", "host to device",      "device to host",
      "disk read",  "disk write",   "send",                "receive",
      "wait weights", "wait KV",    "idle"};
  return kNames[static_cast<int>(activity)];
}

Trace::Trace(std::size_t max_spans)
    : start_(Clock::now()),
      spans_(max_spans > 0 ? std::make_unique<Span[]>(max_spans) : nullptr),
      capacity_(max_spans) {}

std::int64_t Trace::now_ns() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
}

void Trace::add(Activity activity, std::int64_t begin_ns, std::int64_t end_ns, std::int32_t pass,
                std::int32_t layer) {
  busy_ns_[static_cast<int>(activity)].fetch_add(end_ns - begin_ns, std::memory_order_relaxed);
  if (capacity_ == 0) return;
  const std::uint64_t index = count_.fetch_add(1, std::memory_order_relaxed);
  if (index < capacity_) spans_[index] = {activity, pass, layer, begin_ns, end_ns};
}

void Trace::add_bytes(Activity activity, std::uint64_t bytes) {
  bytes_[static_cast<int>(activity)].fetch_add(bytes, std::memory_order_relaxed);
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

std::uint64_t Trace::dropped_spans() const {
  return count_ > capacity_ ? count_ - capacity_ : 0;
}

}  // namespace sluice
