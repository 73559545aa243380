// When each rank was last heard of: tells a silent rank from a living one. The time and the
// heartbeats are handed in, so tests need no clock and no transport.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "comm/step_board.h"

namespace sluice::comm {

/// Rank 0 watches all; all watch rank 0. One thread.
class Peers {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  Peers(int rank, int size, Duration deadline, Time now);

  void heard(int peer, const Step& step, Time now);
  const Step& last_step(int peer) const { return seen_[static_cast<std::size_t>(peer)].step; }

  /// Call it often. If this process itself stood still for half the deadline (stopped, or a laptop
  /// asleep), it has heard nobody meanwhile: every rank gets a new deadline.
  void tick(Time now);

  /// A rank that has been silent for the deadline, or -1. Ranks above 1 wait a second longer for
  /// rank 0, so that rank 1 tells of it where it can.
  int silent(Time now) const;
  /// A watched rank that has been silent for so long, however long the deadline is; or -1.
  int silent_for(Duration patience, Time now) const;

 private:
  struct Seen {
    Time when;
    Step step;
  };

  int rank_;
  Duration deadline_;
  Time last_tick_;
  std::vector<Seen> seen_;
};

}  // namespace sluice::comm
