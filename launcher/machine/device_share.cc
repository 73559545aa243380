#include "launcher/machine/device_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "comm/transport_choice.h"
#include "kernels/device/error.h"
#include "launcher/machine/rank_names.h"
#include "offload/memory_plan.h"

namespace sluice::launcher {

namespace {

using offload::human_bytes;

/// Ranks of each GPU, or of each instance of one (MIG), which has a PCI id in common with others
/// and memory of its own.
using Sharing = std::map<std::pair<std::string, std::string>, std::vector<std::size_t>>;

Sharing sharing_of(const std::vector<RankDevice>& ranks) {
  Sharing sharing;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (ranks[rank].device_id.empty()) continue;
    sharing[{ranks[rank].host, ranks[rank].device_id}].push_back(rank);
  }
  return sharing;
}

void check_dtypes(const std::vector<RankDevice>& ranks) {
  for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
    if (ranks[rank].compute_dtype == ranks[0].compute_dtype) continue;
    throw ConfigError(fmt::format(
        "stages[{}].device: rank 0 computes in {} on {}, but rank {} in {} on {}: their hidden "
        "states do not go together; give all stages the same kind of device",
        rank, ranks[0].compute_dtype, ranks[0].kind, rank, ranks[rank].compute_dtype,
        ranks[rank].kind));
  }
}

}  // namespace

std::uint64_t spare_device_bytes(std::uint64_t free_bytes) {
  return std::min(free_bytes / 32, std::uint64_t{1} << 30U);
}

void check_devices(const std::vector<RankDevice>& ranks) {
  check_dtypes(ranks);
  for (const auto& [place, sharers] : sharing_of(ranks)) {
    std::uint64_t wanted = 0;
    std::uint64_t free = UINT64_MAX;
    std::uint64_t others = 0;
    for (const std::size_t rank : sharers) {
      if (__builtin_add_overflow(wanted, ranks[rank].wanted, &wanted)) wanted = UINT64_MAX;
      // The rank that looked last saw the GPU with the contexts of all ranks. The workspaces of the
      // other ranks are in their plans.
      free = std::min(free, ranks[rank].free);
      if (rank != sharers.front()) others += ranks[rank].taken;
    }
    free += others;
    if (wanted <= free) continue;
    throw CapacityError(fmt::format(
        "GPU {} of host {}: {} plan {} of its memory, but only {} are free; set budget.device of "
        "{}, or move shares to host or disk (policy.weights, policy.cache)",
        comm::pci_id_of(place.second), place.first, names_of(sharers), human_bytes(wanted),
        human_bytes(free), sharers.size() == 1 ? "the stage" : "each stage to its part"));
  }
}

std::vector<std::string> shared_devices(const std::vector<RankDevice>& ranks) {
  std::vector<std::string> lines;
  for (const auto& [place, sharers] : sharing_of(ranks)) {
    if (sharers.size() < 2) continue;
    lines.push_back(fmt::format("{} share GPU {} of {}", names_of(sharers),
                                comm::pci_id_of(place.second), place.first));
  }
  return lines;
}

}  // namespace sluice::launcher
