#include "launcher/machine/core_share.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "comm/gather.h"

namespace sluice::launcher {

Cores own_cores() {
  Cores cores;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  // Fails only where there are more processors than the mask has bits.
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &mask)) cores.insert(core);
    }
  } else {
    const auto count = static_cast<int>(std::thread::hardware_concurrency());
    for (int core = 0; core < count; ++core) cores.insert(core);
  }
  return cores;
}

int share_of_cores(const std::vector<RankCores>& ranks, std::size_t index) {
  const RankCores& own = ranks[index];
  /// How many ranks of the host have something, this one among them.
  const auto sharers = [&](const auto& has) {
    return static_cast<double>(std::ranges::count_if(
        ranks, [&](const RankCores& rank) { return rank.host == own.host && has(rank); }));
  };
  double share = 0;
  for (const int core : own.cores) {
    share += 1.0 / sharers([core](const RankCores& rank) {
               return std::ranges::find(rank.cores, core) != rank.cores.end();
             });
  }
  for (const GroupLimit& limit : own.limits) {
    const double in_group = sharers([&](const RankCores& rank) {
      return std::ranges::find(rank.limits, limit.id, &GroupLimit::id) != rank.limits.end();
    });
    share = std::min(share, limit.amount / in_group);
  }
  constexpr double kRounding = 1e-6;  // of a sum of thirds
  return std::max(1, static_cast<int>(share + kRounding));
}

int share_of_cores(comm::World& world) {
  const auto rank = static_cast<std::size_t>(world.rank());
  const Cores cores = own_cores();
  const RankCores own{world.hosts()[rank].name, {cores.begin(), cores.end()}, processor_limits()};
  return share_of_cores(comm::gather(world, own), rank);
}

}  // namespace sluice::launcher
