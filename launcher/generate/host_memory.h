// Whether the ranks of a host fit into its memory together. Each stage knows only its own plan, and
// stages take unequal parts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::launcher {

/// What one rank plans to take of its machine's own memory, and what was there before it did.
struct RankMemory {
  std::string host;
  std::uint64_t wanted = 0;
  std::uint64_t available = 0;  // 0: not known
};

/// `ranks` by rank. Throws CapacityError naming the first host that is too small for its ranks.
void check_hosts(const std::vector<RankMemory>& ranks);

}  // namespace sluice::launcher
