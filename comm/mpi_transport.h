// MPI as the world needs it. No call blocks after start-up, and no MPI type is seen outside.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "comm/chunk_flow.h"
#include "comm/control_message.h"
#include "comm/process_watch.h"
#include "comm/transfer_table.h"

namespace sluice::comm {

/// What ranks tell each other first.
struct Greeting {
  std::array<char, 256> host = {};  // zero-terminated
  int rank = 0;
  int host_leader = 0;  // the rank whose local rank is 0 on this host
  ProcessId process;
};

/// A chunk that is through.
struct FinishedChunk {
  int slot = -1;
  std::size_t bytes = 0;
  bool too_long = false;  // a receive that had no room for it
};

/// Every rank's bytes, on every rank: an MPI_Allgatherv. Everything must stay valid until it is
/// done.
struct Collective {
  const std::byte* mine;
  std::byte* all;
  const int* counts;         // [ranks]
  const int* displacements;  // [ranks]
};

struct Heard {
  int rank = 0;
  ControlMessage message;
};

/// One thread makes it and destroys it; between the two, one thread makes all calls, which may be
/// another one. Destruction is collective. Throws Error for every MPI call that fails.
class MpiTransport {
 public:
  /// Starts MPI. Throws ConfigError where MPI joined another number of ranks than were started, and
  /// where the interfaces it is told to use are not there (network.h).
  MpiTransport();
  ~MpiTransport();  // drops what is still under way and ends MPI
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const;
  int size() const;

  /// Collective, start-up only: all ranks' greetings, by rank. These are the first messages between
  /// hosts. Where MPI cannot reach a rank of another host for `deadline`, and at least 10 s, the
  /// process says so and ends (StartWatch).
  std::vector<Greeting> meet(std::chrono::milliseconds deadline);
  // Known once the ranks have met.
  int local_rank() const;
  int ranks_on_host() const;
  /// Collective among the ranks of this host, start-up only.
  void host_barrier();

  /// At most one chunk per slot at a time. Never allocates.
  void start(const Message& message, const Chunk& chunk);
  /// The chunks that are through since the last call. Never allocates.
  std::span<const FinishedChunk> finished();
  bool has_chunks() const;

  /// One at a time.
  void start_collective(const Collective& collective);
  bool collective_finished();

  /// False: the last message to this rank is still under way, and this one was not sent.
  bool send_control(int target, const ControlMessage& message);
  std::optional<Heard> hear_control();

  /// Ends all ranks. Returns where there is only this one.
  void abort(ExitStatus status);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace sluice::comm
