// The ranks of a job and the ordered messages between them.
//
// Messages are ordered per (route, source, target). Each route has a communicator of its own, so no
// message waits behind one of another route. A thread of the world makes all progress: only wait(),
// gather() and broadcast() block. Any thread may call send(), receive(), done(), wait(),
// ring_for(), step() and fail().
//
// Failure: a rank that throws tells the others by fail(); heartbeats notice a rank that dies, or is
// silent for `deadline`. In both cases every rank ends within seconds, and one of them prints one
// sentence: the first cause, naming the rank and its last step.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/bell.h"
#include "comm/step_board.h"
#include "kernels/device/error.h"

namespace sluice::comm {

/// passes: headers, head -> stage 0 -> ... -> last stage. hidden: hidden states to the next stage.
/// results: last stage -> head.
enum class Route : std::uint8_t { passes, hidden, results };
constexpr int kRouteCount = 3;

/// A message under way. Valid until wait() or done() said it is complete.
struct Transfer {
  std::int32_t index = -1;
};

struct Host {
  std::string name;
  int pid = 0;
};

class World {
 public:
  virtual ~World() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Ranks on this rank's host, and which of them this one is.
  virtual int ranks_on_host() const = 0;
  virtual int local_rank() const = 0;
  virtual const std::vector<Host>& hosts() const = 0;  // by rank

  /// `bytes` must stay valid and unchanged until the transfer is complete. Sending to oneself
  /// works. Never blocks; does not allocate (at most 8192 transfers at a time).
  virtual Transfer send(Route route, int target, std::span<const std::byte> bytes) = 0;
  /// Posts a receive: the next message of `source` on `route` that has no receive yet goes here.
  /// A message longer than `bytes` is a failure.
  virtual Transfer receive(Route route, int source, std::span<std::byte> bytes) = 0;

  /// True once complete, and the transfer is forgotten. Throws CommError when the job has failed.
  virtual bool done(Transfer transfer, std::size_t* received_bytes = nullptr) = 0;
  /// Blocks until complete; returns the bytes received (or sent). Throws CommError.
  virtual std::size_t wait(Transfer transfer) = 0;

  /// From now on `bell` rings whenever a receive of this rank on `route` is complete, and when the
  /// job fails, so that its owner may sleep until then or until another thread rings it. One bell
  /// per route; null takes it back, and it may be destroyed then.
  virtual void ring_for(Route route, Bell* bell) = 0;
  /// Throws CommError when the job has failed: for who sleeps without a transfer under way.
  virtual void throw_if_failed() const = 0;

  /// Every rank's bytes, by rank, on every rank. Collective; start-up and end of the job only. Use
  /// gather() and broadcast() of gather.h, which carry values of a type.
  virtual std::vector<std::string> gather(const std::string& text) = 0;
  /// Rank 0's bytes, on every rank. Collective.
  virtual std::string broadcast(const std::string& text) = 0;

  /// What this rank is doing, shown when it falls silent or dies: "pass 17, layer 5". Cheap: called
  /// at every layer. `text` must be a string literal: "loading", "layer", "sampling".
  virtual void step(const char* text, std::int64_t pass, std::int64_t layer) = 0;
  /// Rank 0 only, any thread: the last step of a rank; for one on another host that of its last
  /// heartbeat. Worlds of tests need not know.
  virtual Step step_of(int /*rank*/) const { return {}; }

  /// This rank cannot go on: tells every rank the cause and ends the job with `status`. Does not
  /// return on MPI. Any thread.
  [[noreturn]] virtual void fail(ExitStatus status, const std::string& sentence) = 0;

  /// `function(argument)` runs once, on a thread of the world, before that world ends the process
  /// (fail(), a lost peer, a signal). Other threads still run then. Use it to remove a run folder,
  /// say. It must be short, must not throw and must not call the world. It is not called at a
  /// normal end, nor by the local worlds of tests, which never end the process. At most 8
  /// functions.
  using ExitFunction = void (*)(void* argument) noexcept;
  virtual void on_exit(ExitFunction /*function*/, void* /*argument*/) {}
  /// Takes back the functions that on_exit() was given with `argument`, and waits for one that
  /// runs: `argument` may be destroyed afterwards.
  virtual void forget_exit(void* /*argument*/) {}

  /// Rank 0 only. `function(argument)` runs once, on a thread of the world, when the job is asked
  /// to stop: by SIGTERM, SIGUSR1 or SIGINT to any rank, or by MpiOptions::stop_after; at once
  /// where it was asked already. The job then has MpiOptions::stop_time to come to its normal end,
  /// on all ranks. A job that takes longer, or has given no function, is ended with
  /// ExitStatus::stopped (SIGINT: 130).
  using StopFunction = void (*)(void* argument) noexcept;
  virtual void on_stop(StopFunction /*function*/, void* /*argument*/) {}
  /// Takes it back, and waits while it runs.
  virtual void forget_stop() {}
  /// Rank 0 only: the status of a job that was asked to stop and has more to do; none: nobody
  /// asked.
  virtual std::optional<ExitStatus> stop_status() const { return {}; }
};

struct MpiOptions {
  std::chrono::milliseconds heartbeat{500};
  std::chrono::milliseconds deadline{60000};  // YAML: comm.deadline_seconds
  /// Longer messages are cut: MPI counts bytes in an int. At most 2^30, and alike on all ranks.
  std::size_t chunk_bytes = std::size_t{1} << 30;
  /// The job is asked to stop so long after its world was made; 0: never.
  std::chrono::milliseconds stop_after{0};
  /// A job that is asked to stop has so long to come to its end (World::on_stop).
  std::chrono::milliseconds stop_time{7000};
  /// What sentences about an early end advise.
  std::string advice = "run it again with --resume";
};

/// The world of this process: a local world of one rank where nobody started others beside it,
/// else an MPI world. Signals are as with make_mpi_world(). Throws ConfigError where a launcher
/// started several processes that MPI cannot join, naming the launcher and the right command; MPI
/// is not started then.
std::unique_ptr<World> make_world(const MpiOptions& options);

/// Starts MPI: once per process; the destructor ends it. Throws ConfigError where MPI joined
/// another number of processes than the launcher started.
/// A thread of the world handles SIGTERM, SIGUSR1 and SIGINT from here on (World::on_stop). Call
/// this before any other thread is made, or that thread will take the signals. They stay blocked
/// when the world has gone, so that main ends with its own status. The destructor waits until every
/// rank's world is being destroyed, for `deadline` at most.
std::unique_ptr<World> make_mpi_world(const MpiOptions& options);

/// A process of its own: a local world of one rank that handles signals.
std::unique_ptr<World> make_lone_world(const MpiOptions& options);

/// `size` ranks in this process, for tests: world[r] is used by rank r's thread. fail() makes every
/// other rank's calls throw CommError, and throws it itself.
std::vector<std::unique_ptr<World>> make_local_worlds(int size);

/// What must be alike on all ranks before anything else, as "key=value" lines. Collective.
/// Throws ConfigError on every rank, with a table of who differs in what.
void handshake(World& world, const std::vector<std::pair<std::string, std::string>>& facts);

/// Ends a phase that every rank goes through; `problem` is null where the phase went well. If any
/// rank has a problem, every rank throws the lowest rank's with its status. The sentence begins
/// with "rank N: " unless all ranks have the same problem. Collective.
void agree(World& world, const Error* problem);

}  // namespace sluice::comm
