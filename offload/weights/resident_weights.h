// Weights that stay where they are for the whole run, and how they got there. A part of
// WeightStream.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "offload/memory_plan.h"
#include "offload/weights/placement.h"
#include "offload/weights/weight_ring.h"

namespace sluice::offload {

/// Buffers that disk rows are read into: equal ones, filled in turn.
struct StagingSizes {
  std::size_t count = 0;  // 0: nothing is on disk
  std::size_t bytes = 0;  // of each, a multiple of 4096
};

/// Bytes of one side's memory, as plan() reserves and the constructor takes them.
struct WeightSizes {
  std::uint64_t device = 0;  // resident rows, sum of arena_bytes
  std::uint64_t host = 0;    // likewise
  std::uint64_t disk = 0;    // that the run writes itself, in whole blocks
  std::uint64_t slots = 0;   // of the ring, on the device
  StagingSizes staging;      // in the host
  std::uint64_t load = 0;    // of the buffer that loading passes through, a multiple of 4096
  /// One block serves loading and then the ring.
  std::uint64_t staging_block() const {
    return std::max(std::uint64_t{staging.count} * staging.bytes, load);
  }
};

WeightSizes weight_sizes(const std::vector<GroupPlacement>& groups, const WeightRing& ring);

/// Where the rows of a tensor lie that are not on disk. Empty parts have rows == 0.
struct ResidentTensor {
  TensorView device;
  TensorView host;
};
using ResidentGroup = std::vector<ResidentTensor>;  // in the placement's order

using Progress = void (*)(std::uint64_t bytes, void* context);

/// Reserves `sizes.disk`, then takes and fills the resident rows of all groups, through `staging`
/// (at least `sizes.load` bytes). Tells the source which ranges stay on disk. Nothing is in flight
/// when it returns or throws.
std::vector<ResidentGroup> load_resident(Backend& backend, WeightSource& source,
                                         const std::vector<GroupPlacement>& groups, Arena& device,
                                         Arena& host, std::byte* staging, const WeightSizes& sizes,
                                         Progress progress, void* progress_context);

}  // namespace sluice::offload
