// How long a polling thread sleeps between polls: the longer nothing came, the longer. A hundredth
// of a long wait costs a pipeline nothing, and ranks share their cores with this thread: polling
// every 100 us takes 14 % of one.
#pragma once

#include <algorithm>
#include <chrono>

namespace sluice::comm {

class Backoff {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  static constexpr std::chrono::microseconds kSpin{5};
  static constexpr std::chrono::microseconds kShortestSleep{20};
  static constexpr std::chrono::microseconds kLongSleep{100};  // after less than 10 ms
  static constexpr std::chrono::microseconds kLongestSleep{1000};
  static constexpr std::chrono::milliseconds kIdleSleep{5};  // nothing to poll for but heartbeats

  explicit Backoff(Time now) : last_moved_(now) {}

  void moved(Time now) { last_moved_ = now; }

  /// Zero: poll again at once.
  Duration sleep(Time now, bool something_under_way) const {
    if (!something_under_way) return kIdleSleep;
    const Duration still = now - last_moved_;
    if (still < kSpin) return Duration::zero();
    const Duration soon = std::clamp<Duration>(still / 4, kShortestSleep, kLongSleep);
    return std::clamp<Duration>(still / 100, soon, kLongestSleep);
  }

 private:
  Time last_moved_;
};

}  // namespace sluice::comm
