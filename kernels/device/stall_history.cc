#include "kernels/device/stall_history.h"

#include <algorithm>
#include <cassert>

namespace sluice {

StallHistory::StallHistory(std::size_t most_points) {
  assert(most_points >= 4);
  points_.reserve(most_points);
  points_.push_back({0, 0});
}

void StallHistory::begin(std::int64_t time_ns) {
  const std::lock_guard lock(mutex_);
  assert(!stalled_);
  add({time_ns, points_.back().stalled_ns});
  stalled_ = true;
  begun_ = true;
}

void StallHistory::end(std::int64_t time_ns) {
  const std::lock_guard lock(mutex_);
  assert(stalled_);
  const Point last = points_.back();
  add({time_ns, last.stalled_ns + (time_ns - last.time_ns)});
  stalled_ = false;
}

void StallHistory::add(Point point) {
  if (points_.size() == points_.capacity()) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < points_.size(); i += 2) points_[kept++] = points_[i];
    // The last one is where the line goes on from.
    if (points_.size() % 2 == 0) points_[kept++] = points_.back();
    points_.resize(kept);
  }
  points_.push_back(point);
}

std::int64_t StallHistory::until(std::int64_t time_ns) const {
  const std::lock_guard lock(mutex_);
  const Point last = points_.back();
  if (time_ns >= last.time_ns) return last.stalled_ns + (stalled_ ? time_ns - last.time_ns : 0);
  const auto after =
      std::upper_bound(points_.begin(), points_.end(), time_ns,
                       [](std::int64_t time, const Point& point) { return time < point.time_ns; });
  if (after == points_.begin()) return 0;
  const Point& before = *(after - 1);
  const double part = static_cast<double>(time_ns - before.time_ns) /
                      static_cast<double>(after->time_ns - before.time_ns);
  return before.stalled_ns + static_cast<std::int64_t>(
                                 part * static_cast<double>(after->stalled_ns - before.stalled_ns));
}

bool StallHistory::begun() const {
  const std::lock_guard lock(mutex_);
  return begun_;
}

}  // namespace sluice
