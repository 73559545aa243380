// Whether the ranks of a host fit into its memory together: the one place where host memory is
// asked for, and the one check that refuses.
//
// Each stage knows only its own plan, and stages take unequal parts, so the plans of all ranks of a
// host are added up. They are compared with what the machine has available, and with what every
// control group on the way leaves to the ranks in it. The kernel would kill the job otherwise.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "comm/world.h"
#include "launcher/machine/control_groups.h"

namespace sluice::launcher {

/// Bytes that the kernel says are available to all processes together (MemAvailable). 0: not known.
std::uint64_t available_memory(const std::filesystem::path& root = "/");

/// What one rank plans to take of its host's memory, and what was there before it did.
struct RankMemory {
  std::string host;
  std::uint64_t wanted = 0;
  bool with_device_tier = false;   // on the CPU: `wanted` is that of two tiers
  std::uint64_t available = 0;     // available_memory()
  std::vector<GroupLimit> limits;  // memory_limits()
  static auto fields(auto& self) {
    return std::tie(self.host, self.wanted, self.with_device_tier, self.available, self.limits);
  }
};

/// `ranks` by rank. Throws CapacityError naming the first host, or control group, that is too small
/// for its ranks.
void check_hosts(const std::vector<RankMemory>& ranks);

/// Throws CapacityError on every rank alike, where the ranks of a host plan more than it can give.
/// Call it before any rank allocates. Collective.
void check_hosts(comm::World& world, std::uint64_t wanted, bool with_device_tier);

}  // namespace sluice::launcher
