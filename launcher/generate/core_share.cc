#include "launcher/generate/core_share.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <thread>

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

int share_of_cores(const std::vector<Cores>& ranks_of_host, std::size_t index) {
  double share = 0;
  for (const int core : ranks_of_host[index]) {
    share += 1.0 / static_cast<double>(std::ranges::count_if(
                       ranks_of_host, [&](const Cores& cores) { return cores.contains(core); }));
  }
  constexpr double kRounding = 1e-6;  // of a sum of thirds
  return std::max(1, static_cast<int>(share + kRounding));
}

int share_of_cores(comm::World& world) {
  const std::vector<std::string> texts =
      world.gather(fmt::format("{}", fmt::join(own_cores(), " ")));
  const auto own = static_cast<std::size_t>(world.rank());
  std::vector<Cores> ranks;
  std::size_t index = 0;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    if (world.hosts()[rank].name != world.hosts()[own].name) continue;
    if (rank == own) index = ranks.size();
    std::istringstream text(texts[rank]);
    Cores& cores = ranks.emplace_back();
    for (int core = 0; text >> core;) cores.insert(core);
  }
  return share_of_cores(ranks, index);
}

}  // namespace sluice::launcher
