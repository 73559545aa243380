// A child process, and the signals that this process gets while it waits for it.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace sluice::launcher {

/// As long as it lives, SIGTERM, SIGINT, SIGHUP, SIGUSR1 and the ends of children wait for wait().
/// Main thread, while there is no other.
class HeldSignals {
 public:
  HeldSignals();
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  /// The signal that came first, or none within `time` (none: for ever). SIGCHLD says that a child
  /// may have ended.
  std::optional<int> wait(std::optional<std::chrono::milliseconds> time);

  const sigset_t& before() const { return before_; }  // the mask that a child gets

 private:
  sigset_t held_;
  sigset_t before_;
};

class ChildProcess {
 public:
  /// Starts `words`, found by PATH. The child is asked to end (SIGTERM) when this process dies.
  /// With `log` standard input is /dev/null and both its outputs go to that file; else it shares
  /// this process's, in a process group of its own, so that a terminal's Ctrl-C comes here alone.
  /// `signals` must outlive it. Throws IoError where the program cannot be started.
  ChildProcess(const std::vector<std::string>& words, const HeldSignals& signals,
               const std::filesystem::path& log = {});
  /// Kills it, where it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Nothing once it has ended.
  void send(int signal) const;
  /// How it ended, as a shell says it: its exit status, or 128 + its signal; none: it still runs.
  std::optional<int> end();
  /// Whether a child of its own runs this program (a path without links).
  bool is_running(const std::filesystem::path& program) const;

 private:
  pid_t pid_ = -1;
  std::optional<int> end_;
};

}  // namespace sluice::launcher
