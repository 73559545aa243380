// Which layers each stage gets where stages differ: in memory, in links, in embedding and head.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace sluice::launcher {

/// Of a stage that owns so many layers; infinity where it cannot. Asked at most once for each pair.
using StageSeconds = std::function<double(std::int32_t stage, std::int32_t layers)>;

/// Layers of each stage, at least one, such that the slowest stage is as fast as it can be; of
/// equals the split whose stages take least in sum. Exact, by dynamic programming. Empty: no split
/// is possible.
std::optional<std::vector<std::int32_t>> split_by_seconds(std::int32_t stages, std::int32_t layers,
                                                          const StageSeconds& seconds);

}  // namespace sluice::launcher
