#include "launcher/generate/host_memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"
#include "offload/memory_plan.h"

namespace sluice::launcher {

namespace {

using offload::human_bytes;

void check_host(const std::string& host, const std::vector<RankMemory>& ranks) {
  std::uint64_t wanted = 0;
  std::uint64_t available = UINT64_MAX;
  std::string parts;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (ranks[rank].host != host) continue;
    // Plans of a wrong configuration may be larger than anything: they must not wrap.
    if (__builtin_add_overflow(wanted, ranks[rank].wanted, &wanted)) wanted = UINT64_MAX;
    if (ranks[rank].available > 0) available = std::min(available, ranks[rank].available);
    parts += fmt::format("{}rank {} {}", parts.empty() ? "" : ", ", rank,
                         human_bytes(ranks[rank].wanted));
  }
  if (wanted <= available) return;
  throw CapacityError(fmt::format(
      "host {}: its ranks plan {} of its memory together ({}), but only {} are available; move "
      "shares to disk (policy.weights, policy.cache), lower batching.gpu_batch_size, or start "
      "fewer ranks there",
      host, human_bytes(wanted), parts, human_bytes(available)));
}

}  // namespace

void check_hosts(const std::vector<RankMemory>& ranks) {
  for (const RankMemory& rank : ranks) check_host(rank.host, ranks);
}

}  // namespace sluice::launcher
