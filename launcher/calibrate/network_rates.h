// What messages between two ranks take, as hidden states and tokens travel: from host memory, by
// the job's own world.
#pragma once

#include "comm/world.h"
#include "launcher/planner/machine.h"

namespace sluice::launcher {

/// Between rank 0 and `partner`, which both call it; others need not. Throws CommError. The result
/// is rank 0's.
NetworkRates measure_network(comm::World& world, int partner, const std::string& date);

/// The first rank on rank 0's host beside it, and the first on another; -1: there is none.
struct Partners {
  int within_host = -1;
  int other_host = -1;
};
Partners find_partners(const comm::World& world);

}  // namespace sluice::launcher
