// How a stage used each of its resources, beside what its machine can do: the rows of the report's
// table, and the resource that bounded the run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stage/report.h"

namespace sluice::launcher {

/// A negative number: not known.
struct ResourceUse {
  const char* name = "";
  std::uint64_t bytes = 0;  // moved; of compute: of weights and KV read, from shapes
  double flop = 0;          // of compute
  double busy_seconds = 0;
  double measured_rate = -1;  // bytes per second of this machine, or the limit it was given
  double measured_flop = -1;  // ... of f32
  double hidden = -1;         // part of busy_seconds in which the compute lane was at work

  double rate() const;  // bytes per busy second
  /// The time its bytes and FLOP would take at the measured rates, whichever is longer, over the
  /// time they took.
  double of_measured() const;
};

/// Of those that did anything, in a fixed order.
std::vector<ResourceUse> resource_uses(const stage::StageReport& stage,
                                       const stage::PhaseReport& phase);

/// The resource that was busy longest. It is "other stages" where the compute lane waited even
/// longer for passes and messages, and "the executor" where it waited longest for work to be
/// issued.
struct Bound {
  const char* name = "";
  double seconds = 0;
  double of_wall = -1;
};
Bound bound_of(const stage::PhaseReport& phase);

/// The phase that shows the steady state best: decode where there is enough of it, else the whole
/// run.
const stage::PhaseReport& steady_phase(const stage::StageReport& stage);

}  // namespace sluice::launcher
