// SIGTERM, SIGINT and SIGCONT, taken by a thread and not by a handler, so that what answers them
// may do what any code may. SIGCONT still continues a stopped process; it is heard because mpirun
// sends it first of all when it ends a job.
#pragma once

#include <functional>
#include <thread>

namespace sluice::comm {

/// Make it before any other thread: the signals are blocked in the calling thread, and threads
/// inherit that. They stay blocked when the watch has gone, so that a process whose job is done
/// ends with its own status although the launcher already stops the others.
class SignalWatch {
 public:
  /// `answer(signal)` runs on the watch's thread, for each signal. Throws Error.
  explicit SignalWatch(std::function<void(int)> answer);
  ~SignalWatch();  // ends the thread; must not be called from `answer`
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  void watch();

  std::function<void(int)> answer_;
  int signals_ = -1;
  int stop_ = -1;
  std::thread thread_;
};

}  // namespace sluice::comm
