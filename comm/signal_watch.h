// SIGTERM, SIGUSR1, SIGINT and SIGCONT, taken by a thread instead of a handler, so the answer may
// call anything. SIGCONT is taken because mpirun sends it first when it ends a job; it still
// continues a stopped process.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace sluice::comm {

/// Make it before any other thread: it blocks the signals in the calling thread, and new threads
/// inherit that. They stay blocked when the watch has gone. A process whose job is done then ends
/// with its own status, even if the launcher is already stopping the others.
class SignalWatch {
 public:
  static constexpr int kAlarm = 0;  // no signal has this number

  /// `answer(signal)` runs on the watch's thread, for each signal and for kAlarm. Throws Error.
  explicit SignalWatch(std::function<void(int)> answer);
  ~SignalWatch();  // ends the thread; must not be called from `answer`
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  /// answer(kAlarm) runs at `when`; an alarm that was set before is forgotten. Any thread.
  void alarm_at(std::chrono::steady_clock::time_point when) noexcept;

 private:
  void watch();

  std::function<void(int)> answer_;
  int signals_ = -1;
  int alarm_ = -1;
  int stop_ = -1;
  std::thread thread_;
};

}  // namespace sluice::comm
