#include "offload/weights/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "kernels/device/error.h"
#include "offload/memory_plan.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kPad = 64;

// Two cuts of a layer's bytes, both between rows: [0, device) [device, host) [host, end).
struct Cuts {
  std::uint64_t device = 0;
  std::uint64_t host = 0;
};

// The row borders of a layer beside `target` bytes from its start: at or below, and at or above.
std::array<std::uint64_t, 2> borders_beside(const GroupPlacement& layer, double target) {
  const double total = static_cast<double>(layer.total_bytes());
  if (target <= 0.0) return {0, 0};
  if (target >= total) return {layer.total_bytes(), layer.total_bytes()};
  std::uint64_t start = 0;
  for (const TensorPlacement& tensor : layer.tensors) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(tensor.info.rows) * tensor.row_bytes();
    if (bytes > 0 && target <= static_cast<double>(start + bytes)) {
      const std::uint64_t row_bytes = tensor.row_bytes();
      const auto row =
          std::min(static_cast<std::uint64_t>(std::max(0.0, (target - static_cast<double>(start)) /
                                                                static_cast<double>(row_bytes))),
                   static_cast<std::uint64_t>(tensor.info.rows) - 1);
      return {start + row * row_bytes, start + (row + 1) * row_bytes};
    }
    start += bytes;
  }
  return {start, start};
}

// Bytes of all layers so far: in all, on the device, on device or host.
struct Running {
  std::uint64_t total = 0;
  std::uint64_t device = 0;
  std::uint64_t host = 0;
};

// The pair of row borders that leaves the largest error of a tier, summed over all layers so far,
// smallest. Cutting device and host each at its nearest border is not enough: with a small share
// between the cuts their carried errors can cross over and add up.
Cuts choose_cuts(const GroupPlacement& layer, const Shares& shares, const Running& before) {
  const std::uint64_t bytes = layer.total_bytes();
  const double total = static_cast<double>(before.total) + static_cast<double>(bytes);
  const double device_target = shares.device / 100.0 * total - static_cast<double>(before.device);
  const double host_target =
      (shares.device + shares.host) / 100.0 * total - static_cast<double>(before.host);
  const auto near_device = borders_beside(layer, device_target);
  const auto near_host = borders_beside(layer, host_target);
  const std::array<std::uint64_t, 6> borders = {
      0, near_device[0], near_device[1], near_host[0], near_host[1], bytes};
  Cuts best;
  double least = std::numeric_limits<double>::infinity();
  for (const std::uint64_t device : borders) {
    for (const std::uint64_t host : borders) {
      // A share of nothing is met exactly, whatever the errors of the others.
      const bool possible = device <= host && (shares.device > 0 || device == 0) &&
                            (shares.host > 0 || host == device) &&
                            (shares.disk > 0 || host == bytes);
      if (!possible) continue;
      const double device_error = static_cast<double>(device) - device_target;
      const double disk_error = host_target - static_cast<double>(host);
      const double host_error = -device_error - disk_error;
      const double error =
          std::max({std::abs(device_error), std::abs(host_error), std::abs(disk_error)}) +
          // of equals, the better in sum
          1e-6 * (std::abs(device_error) + std::abs(host_error) + std::abs(disk_error));
      if (error < least) {
        least = error;
        best = {device, host};
      }
    }
  }
  return best;
}

void cut(GroupPlacement& layer, const Cuts& cuts) {
  std::uint64_t start = 0;
  for (TensorPlacement& tensor : layer.tensors) {
    const std::uint64_t row_bytes = tensor.row_bytes();
    if (tensor.info.rows == 0) continue;
    const std::uint64_t end = start + static_cast<std::uint64_t>(tensor.info.rows) * row_bytes;
    const auto rows_before = [&](std::uint64_t border) {
      return static_cast<std::int64_t>((std::clamp(border, start, end) - start) / row_bytes);
    };
    const std::int64_t device = rows_before(cuts.device);
    const std::int64_t device_or_host = rows_before(cuts.host);
    tensor.rows = {device, device_or_host - device, tensor.info.rows - device_or_host};
    start = end;
  }
}

WeightInfo find(const WeightSpec& spec, WeightSource& source) {
  if (spec.name.empty() || spec.rows == 0) return {};
  const WeightInfo info = source.find(spec);
  // 2^50 bytes is more than any tensor, and small enough for sums over all of them.
  constexpr std::int64_t kMostElements = std::int64_t{1} << 48;
  if (info.rows < 1 || info.columns < 1 || info.columns > kMostElements / info.rows) {
    throw InputError(fmt::format(
        "tensor '{}' has shape [{}, {}], which cannot be a weight; check the model's files",
        spec.name, info.rows, info.columns));
  }
  return info;
}

}  // namespace

std::uint64_t GroupPlacement::bytes(Tier tier) const {
  std::uint64_t sum = 0;
  for (const TensorPlacement& tensor : tensors) sum += tensor.bytes(tier);
  return sum;
}

std::uint64_t GroupPlacement::total_bytes() const {
  std::uint64_t sum = 0;
  for (const TensorPlacement& tensor : tensors) {
    sum += static_cast<std::uint64_t>(tensor.info.rows) * tensor.row_bytes();
  }
  return sum;
}

std::uint64_t GroupPlacement::slot_bytes() const {
  std::uint64_t sum = 0;
  for (const TensorPlacement& tensor : tensors) {
    sum += arena_bytes(tensor.bytes(Tier::host) + tensor.bytes(Tier::disk), kPad);
  }
  return sum;
}

std::vector<GroupPlacement> place_weights(const std::vector<GroupSpec>& groups,
                                          const Shares& shares, WeightSource& source) {
  std::vector<GroupPlacement> placed;
  placed.reserve(groups.size());
  Running running;
  for (std::size_t first = 0; first < groups.size();) {
    std::size_t end = first + 1;
    while (end < groups.size() && groups[first].layer >= 0 &&
           groups[end].layer == groups[first].layer) {
      ++end;
    }
    GroupPlacement layer;
    for (std::size_t g = first; g < end; ++g) {
      for (const WeightSpec& weight : groups[g].tensors) {
        layer.tensors.push_back({find(weight, source), {}});
      }
    }
    const Cuts cuts = choose_cuts(layer, shares, running);
    cut(layer, cuts);
    running.total += layer.total_bytes();
    running.device += cuts.device;
    running.host += cuts.host;
    auto tensor = layer.tensors.begin();
    for (; first < end; ++first) {
      const GroupSpec& spec = groups[first];
      const auto stop = tensor + static_cast<std::ptrdiff_t>(spec.tensors.size());
      placed.push_back({spec.name, {tensor, stop}, spec.layer});
      tensor = stop;
    }
  }
  return placed;
}

}  // namespace sluice::offload
