// How a process of an MPI job ends when it does not end well: one sentence on stderr, once per
// host, then the functions its owner asked for, then exit. Knows no MPI, because MPI may be the
// patient.
#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

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
  bool watched = true;  // false: its /proc is not ours to see (another PID namespace)
};

/// Any thread may call anything.
class LastWords {
 public:
  /// `neighbours` sit on the board in this order; this rank is `neighbours[local_rank]`.
  LastWords(StepBoard board, std::vector<Host> hosts, std::vector<Neighbour> neighbours,
            int local_rank);

  void on_exit(World::ExitFunction function, void* argument);
  void forget_exit(void* argument);

  void step(const Step& step) noexcept { board_.write(local_rank_, step); }
  Step own_step() const { return board_.read(local_rank_); }

  /// A rank of this host that ended without leaving, or -1.
  int dead_rank() const;
  std::string death_of(int rank) const;
  /// `heard` is what it last told this rank; a neighbour's own word on the board is newer.
  std::string silence_of(int rank, std::chrono::milliseconds deadline, const Step& heard) const;

  /// Prints "sluice: <sentence>" unless a rank of this host has had the last word already. Ranks
  /// that are stopped because of it exit with `status` too.
  void say(const std::string& sentence, ExitStatus status);
  /// This rank ends of its own will with `status`: it is no corpse to its neighbours, its on_exit
  /// functions run, and a signal that comes meanwhile does not change the status.
  void prepare_exit(ExitStatus status);
  /// prepare_exit(), then ends the process with it.
  [[noreturn]] void exit(ExitStatus status);

  /// Answers a signal. When a rank dies, mpirun sends the others SIGCONT at once, SIGTERM 1 s later
  /// and SIGKILL after 1 s more: whoever is first says who died. SIGTERM or SIGINT with nobody
  /// dead: somebody stops the job (a stopped mpirun kills its ranks about 5 ms after SIGTERM).
  /// SIGCONT with nobody dead is none of our business. Returns only then and after the normal end.
  void on_signal(int signal);

  /// The job is done: what happens to other ranks is no failure any more.
  void end_normally();

 private:
  int seat_of(int rank) const;
  std::string name_of_rank(int rank) const;

  StepBoard board_;
  std::vector<Host> hosts_;
  std::vector<Neighbour> neighbours_;
  int local_rank_;
  std::atomic<int> exit_code_{-1};  // -1: not ending
  std::atomic<bool> ended_normally_{false};
  std::mutex mutex_;  // guards functions_; held while they run, so that nobody exits half-way
  struct ExitCall {
    World::ExitFunction function;
    void* argument;
  };
  std::vector<ExitCall> functions_;
};

}  // namespace sluice::comm
