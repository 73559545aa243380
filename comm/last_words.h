// How a process of an MPI job ends after a failure: one rank of each host prints one sentence to
// stderr; every rank runs its exit functions and exits. Nothing here calls MPI, since MPI itself
// may have failed.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "comm/exit_calls.h"
#include "comm/process_watch.h"
#include "comm/step_board.h"
#include "comm/world.h"

namespace sluice::comm {

/// "sluice: <sentence>" on stderr, as one line that other processes' lines do not mix with.
void print_error(const std::string& sentence);

/// A rank of this host.
struct Neighbour {
  int rank = 0;
  ProcessId process;
  bool watched = true;  // false: this process cannot see it in /proc (another PID namespace)
};

/// Any thread may call anything.
class LastWords {
 public:
  /// `neighbours` sit on the board in this order; this rank is `neighbours[local_rank]`. Ranks send
  /// rank 0 a message every `heartbeat`. `advice`: MpiOptions::advice.
  LastWords(StepBoard board, std::vector<Host> hosts, std::vector<Neighbour> neighbours,
            int local_rank, std::chrono::milliseconds heartbeat, std::string advice);

  ExitCalls& exit_calls() { return exit_calls_; }

  void step(const Step& step) noexcept { board_.write(local_rank_, step); }
  Step own_step() const { return board_.read(local_rank_); }

  /// A heartbeat of a rank has come.
  void heard(int rank, const Step& step) noexcept;
  /// The last step of a rank: a neighbour's own word on the board, or what was heard of another.
  Step step_of(int rank) const;

  /// A rank of this host that ended without leaving, or -1.
  int dead_rank() const;
  std::string death_of(int rank) const;
  /// `heard` is what it last told this rank; a neighbour's own word on the board is newer.
  std::string silence_of(int rank, std::chrono::milliseconds deadline, const Step& heard) const;

  /// Prints "sluice: <sentence>" unless a rank of this host has claimed the last word already. The
  /// other ranks of the host, when they are stopped, exit with `status`, too. An empty sentence was
  /// said before.
  void say(const std::string& sentence, ExitStatus status);
  /// Marks this rank as ending by itself with `status`, so that its neighbours do not call it dead,
  /// and runs its on_exit functions. A signal that comes meanwhile does not change the status.
  void prepare_exit(ExitStatus status);
  /// prepare_exit(), then ends the process with it.
  [[noreturn]] void exit(ExitStatus status);

  /// What a signal, or the end of the time to stop, means. When a rank dies, mpirun sends the
  /// others SIGCONT at once, SIGTERM 1 s later and SIGKILL after 1 s more; the first rank to look
  /// says who died, and this process ends. So it does where another rank has claimed the last word.
  /// Returns false while all ranks live: what the signal asks for is to be done. Returns true after
  /// the normal end.
  bool is_settled();
  /// What stands behind the cause where a launcher may have stopped rank 0 because a process on
  /// another host ended: ", after rank 1 ...", a rank that has missed a heartbeat; empty on one
  /// host.
  std::string reason_elsewhere() const;

  /// The job is done: signals and deaths of other ranks are no failures any more.
  void end_normally();

 private:
  using Clock = std::chrono::steady_clock;

  int seat_of(int rank) const;
  std::string name_of_rank(int rank) const;

  StepBoard board_;
  std::vector<Host> hosts_;
  std::vector<Neighbour> neighbours_;
  int local_rank_;
  std::chrono::milliseconds heartbeat_;
  std::string advice_;
  std::vector<std::atomic<Clock::time_point>> heard_;  // by rank; rank 0 hears all of them
  mutable std::mutex mutex_;
  std::vector<Step> steps_;         // by rank, as they were heard
  std::atomic<int> exit_code_{-1};  // -1: not ending
  std::atomic<bool> ended_normally_{false};
  ExitCalls exit_calls_;
};

}  // namespace sluice::comm
