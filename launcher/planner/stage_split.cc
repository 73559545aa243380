#include "launcher/planner/stage_split.h"

#include <algorithm>
#include <limits>

namespace sluice::launcher {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// Of the first stages with so many layers in all.
struct Best {
  double slowest = kNever;
  double sum = kNever;
  std::int32_t of_last = 0;  // layers of the last of these stages

  bool better_than(const Best& other) const {
    return slowest < other.slowest || (slowest == other.slowest && sum < other.sum);
  }
};

}  // namespace

std::optional<std::vector<std::int32_t>> split_by_seconds(std::int32_t stages, std::int32_t layers,
                                                          const StageSeconds& seconds) {
  if (stages < 1 || layers < stages) return std::nullopt;
  const auto width = static_cast<std::size_t>(layers) + 1;
  std::vector<std::vector<Best>> best(static_cast<std::size_t>(stages) + 1,
                                      std::vector<Best>(width));
  best[0][0] = {0, 0, 0};
  for (std::int32_t stage = 0; stage < stages; ++stage) {
    std::vector<double> of_count(width, kNever);
    for (std::int32_t n = 1; n <= layers - (stages - 1); ++n) {
      of_count[static_cast<std::size_t>(n)] = seconds(stage, n);
    }
    const auto& before = best[static_cast<std::size_t>(stage)];
    auto& after = best[static_cast<std::size_t>(stage) + 1];
    for (std::size_t all = 1; all < width; ++all) {
      for (std::size_t n = 1; n <= all; ++n) {
        const Best& rest = before[all - n];
        const Best found{std::max(rest.slowest, of_count[n]), rest.sum + of_count[n],
                         static_cast<std::int32_t>(n)};
        if (found.better_than(after[all])) after[all] = found;
      }
    }
  }
  if (best.back().back().slowest == kNever) return std::nullopt;
  std::vector<std::int32_t> split(static_cast<std::size_t>(stages));
  std::int32_t left = layers;
  for (std::size_t stage = split.size(); stage-- > 0;) {
    split[stage] = best[stage + 1][static_cast<std::size_t>(left)].of_last;
    left -= split[stage];
  }
  return split;
}

}  // namespace sluice::launcher
