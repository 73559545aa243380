// How many threads a rank computes with where the configuration does not say: its fair part of the
// cores that it and the other ranks of its host may use.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "comm/world.h"
#include "launcher/machine/control_groups.h"

namespace sluice::launcher {

/// Numbers of processors.
using Cores = std::set<int>;

/// Those in this process's affinity mask; all of the host where the mask cannot be read.
Cores own_cores();

/// What a rank may use of its host's processors.
struct RankCores {
  std::string host;
  std::vector<int> cores;          // as Cores
  std::vector<GroupLimit> limits;  // processor_limits()
  static auto fields(auto& self) { return std::tie(self.host, self.cores, self.limits); }
};

/// Whole cores that fall to rank `index`, at least 1. Every core is shared evenly by the ranks of
/// its host that may use it: ranks that mpirun bound to cores of their own keep all of them, ranks
/// that were not bound divide the host. The processor time of a control group is shared evenly by
/// the ranks in it.
int share_of_cores(const std::vector<RankCores>& ranks, std::size_t index);

/// share_of_cores() of this rank. Collective.
int share_of_cores(comm::World& world);

}  // namespace sluice::launcher
