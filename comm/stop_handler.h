// How a job that is asked to stop comes to its end: the head is told and ends the job in the normal
// way; where that takes too long, or there is no head yet, the owner ends the processes.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include "comm/signal_watch.h"
#include "comm/world.h"
#include "kernels/device/error.h"

namespace sluice::comm {

/// What asked the job to stop.
struct StopCause {
  ExitStatus status = ExitStatus::stopped;
  std::string text;  // "SIGTERM"
};

/// A scheduler's signals give ExitStatus::stopped, the user's Ctrl-C (SIGINT) 130.
StopCause cause_of(int signal);

/// Times between the wish and the end of the processes. Slurm kills 30 s after its SIGTERM.
struct StopTimes {
  using Milliseconds = std::chrono::milliseconds;
  Milliseconds head{7000};  // for the head to bring the job to its end
  Milliseconds others{
      1500};  // other ranks wait so much longer, since the head ends the job for all
  Milliseconds without_head{0};  // where no function was given to on_stop(), on rank 0
  Milliseconds stuck{1000};      // for StopOwner::end() to end the process
};

/// The world that ends.
class StopOwner {
 public:
  virtual ~StopOwner() = default;
  /// The signal is about something else, which this call has dealt with: the job has ended, or a
  /// rank has died. May end the process. On the handler's thread.
  virtual bool settles(int signal) = 0;
  virtual bool is_head() const = 0;
  /// What stands behind the cause in the head's sentence: ", or ..."; any thread.
  virtual std::string doubt() const { return {}; }
  /// On ranks other than 0; any thread.
  virtual void tell_head(const StopCause& cause) = 0;
  /// Brings about the end of the process, and may return before it; any thread. `at_once`: ends it
  /// here and now.
  virtual void end(const StopCause& cause, bool at_once) = 0;
};

class StopHandler {
 public:
  /// Takes the signals from here on: make it before any other thread. `advice`:
  /// MpiOptions::advice. A second Ctrl-C ends the process at once.
  StopHandler(StopOwner& owner, std::string advice);

  /// The job stops at `limit` from now on. Before anybody can ask(), and on rank 0 only.
  void set_limit(std::chrono::milliseconds limit);
  void set_times(const StopTimes& times) { times_ = times; }  // likewise, on any rank

  // As World has them:
  void on_stop(World::StopFunction function, void* argument);
  void forget_stop();
  std::optional<ExitStatus> status() const;

  /// Somebody wants the job to stop. The first wish counts. Any thread.
  void ask(const StopCause& cause);

 private:
  void answer(int signal);
  void answer_alarm();
  void alarm_in(std::chrono::milliseconds time) noexcept;
  bool tell();

  StopOwner& owner_;
  const std::string advice_;
  StopTimes times_;
  mutable std::mutex mutex_;
  World::StopFunction function_ = nullptr;
  void* argument_ = nullptr;
  std::optional<StopCause> cause_;
  bool interrupted_ = false;   // the watch's thread's
  bool time_is_over_ = false;  // likewise
  SignalWatch watch_;          // last: its thread uses the rest
};

}  // namespace sluice::comm
