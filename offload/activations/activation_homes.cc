#include "offload/activations/activation_homes.h"

#include <algorithm>
#include <cmath>

namespace sluice::offload {

// A share of nothing is nothing.
PerTier<std::int64_t> rows_by_tier(const Shares& shares, std::int64_t tokens) {
  const auto up_to = [tokens](double share) {
    return std::clamp(std::int64_t{std::llround(share / 100.0 * static_cast<double>(tokens))},
                      std::int64_t{0}, tokens);
  };
  const std::int64_t device = shares.device > 0 ? up_to(shares.device) : 0;
  std::int64_t on_or_in_host = up_to(shares.device + shares.host);
  if (shares.disk <= 0) on_or_in_host = tokens;
  if (shares.host <= 0) on_or_in_host = shares.disk <= 0 ? tokens : device;
  on_or_in_host = std::max(on_or_in_host, device);
  return {device, on_or_in_host - device, tokens - on_or_in_host};
}

bool all_on_device(const Shares& shares) { return shares.host <= 0 && shares.disk <= 0; }

// Not simply those of the most tokens: where two cuts are rounded, the rows between them can be
// more for fewer tokens.
HomeBytes home_bytes(const ActivationShape& shape, const Shares& shares) {
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(shape.width) * size_of(shape.dtype);
  HomeBytes bytes;
  bytes.buffer = static_cast<std::uint64_t>(shape.tokens) * row_bytes;
  if (all_on_device(shares)) return bytes;
  for (std::int64_t tokens = 1; tokens <= shape.tokens; ++tokens) {
    const PerTier<std::int64_t> rows = rows_by_tier(shares, tokens);
    for (std::size_t t = 0; t < rows.size(); ++t) {
      bytes.tier[t] = std::max(bytes.tier[t], static_cast<std::uint64_t>(rows[t]) * row_bytes);
    }
  }
  std::uint64_t& disk = bytes.tier[static_cast<std::size_t>(Tier::disk)];
  disk = round_to_blocks(disk);
  return bytes;
}

void ActivationStore::plan(const ActivationShape& shape, const Shares& shares, MemoryPlan& plan) {
  const HomeBytes bytes = home_bytes(shape, shares);
  const auto batches = static_cast<std::uint64_t>(shape.gpu_batches);
  const auto reserve = [&plan](Tier tier, const char* purpose, std::uint64_t reserved) {
    if (reserved > 0) plan.reserve(tier, purpose, reserved);
  };
  const std::uint64_t buffers = all_on_device(shares) ? batches : kSharedBuffers;
  const std::uint64_t held =
      shape.adjoining ? arena_bytes(buffers * bytes.buffer) : buffers * arena_bytes(bytes.buffer);
  reserve(Tier::device, "activations", held + batches * arena_bytes(bytes.tier[0]));
  reserve(Tier::host, "activations", batches * arena_bytes(bytes.tier[1]));
  reserve(Tier::disk, "activations", batches * bytes.tier[2]);
  if (bytes.tier[2] > 0) {
    reserve(Tier::host, "activation staging", kStagings * arena_bytes(bytes.tier[2], kDiskBlock));
  }
}

}  // namespace sluice::offload
