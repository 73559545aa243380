// How long a lane had stood still by any moment of a run, in a fixed amount of memory.
//
// It keeps one point where each stall begins and one where it ends. When there is no room for more,
// every second point is dropped: sums stay exact, and times long ago become coarser.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace sluice {

/// Times in nanoseconds since one and the same moment. Thread-safe; allocates when made, only.
class StallHistory {
 public:
  explicit StallHistory(std::size_t most_points = 4096);  // >= 4

  /// In turn, at times that do not go back.
  void begin(std::int64_t time_ns);
  void end(std::int64_t time_ns);

  /// Nanoseconds stood still before `time_ns`, which may lie in a stall that has not ended.
  std::int64_t until(std::int64_t time_ns) const;
  /// Whether begin() was ever called.
  bool begun() const;

 private:
  struct Point {
    std::int64_t time_ns;
    std::int64_t stalled_ns;  // until then
  };

  void add(Point point);

  mutable std::mutex mutex_;
  std::vector<Point> points_;
  bool stalled_ = false;
  bool begun_ = false;
};

}  // namespace sluice
