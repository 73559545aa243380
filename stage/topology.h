// Which ranks make a stage, and who talks to whom. Today a stage is one rank; nobody else counts on
// it: what wants to know a neighbour's rank asks here.
#pragma once

#include <cstdint>

namespace sluice::stage {

struct Topology {
  std::int32_t stages = 1;

  /// Of a job of so many ranks.
  static Topology of_ranks(int ranks) { return {ranks}; }

  int ranks() const { return stages; }
  std::int32_t stage_of(int rank) const { return rank; }
  /// The rank of a stage that its neighbours talk to.
  int rank_of(std::int32_t stage) const { return stage; }

  /// The rank that admits requests, makes the passes and takes their results.
  int head() const { return rank_of(0); }
  /// The rank that a stage's passes come from: of the stage before, or the head. Hidden states come
  /// from there, too, but to no first stage.
  int before(std::int32_t stage) const { return stage == 0 ? head() : rank_of(stage - 1); }
  /// The rank that a stage's passes and hidden states go on to. Not of the last stage.
  int after(std::int32_t stage) const { return rank_of(stage + 1); }
  /// The rank that samples, and sends the results.
  int last() const { return rank_of(stages - 1); }
};

}  // namespace sluice::stage
