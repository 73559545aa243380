// How many threads a rank should compute with where nobody says: its fair part of the cores that
// it and the other ranks of its host may use.
#pragma once

#include <cstddef>
#include <set>
#include <vector>

#include "comm/world.h"

namespace sluice::launcher {

/// Numbers of processors.
using Cores = std::set<int>;

/// Those in this process's affinity mask; all of the host where the mask cannot be read.
Cores own_cores();

/// Whole cores that fall to rank `index`, at least 1, where every core is shared evenly by the
/// ranks that may use it. Ranks that mpirun bound to cores of their own keep all of them; ranks
/// that were not bound divide the host.
int share_of_cores(const std::vector<Cores>& ranks_of_host, std::size_t index);

/// share_of_cores() of this rank. Collective.
int share_of_cores(comm::World& world);

}  // namespace sluice::launcher
