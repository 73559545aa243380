// How long a polling thread sleeps between polls: the longer nothing came, the longer. The thread
// shares its cores with the ranks' computing, and polling at kLongSleep takes 14 % of a core. After
// a long wait, a sleep of a hundredth of it delays the pipeline by no more than that.
//
// These constants are the only place where the times stand; other comments name them.
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
  static constexpr std::chrono::microseconds kLongSleep{100};  // until nothing came for 10 ms
  static constexpr std::chrono::microseconds kLongestSleep{1000};
  static constexpr std::chrono::milliseconds kIdleSleep{5};  // nothing to poll for but heartbeats

  explicit Backoff(Time now) : last_moved_(now) {}

  void moved(Time now) { last_moved_ = now; }

  /// How long to sleep now; zero: poll again at once. `something_under_way`: a message or a
  /// collective is expected.
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
