// Weights that stay where they are for the whole run, and how they got there. A part of
// WeightStream.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "offload/memory_plan.h"
#include "offload/placement.h"

namespace sluice::offload {

/// Bytes of one side's memory, as plan() reserves and the constructor takes them.
struct WeightSizes {
  std::uint64_t device = 0;   // resident rows, sum of arena_bytes
  std::uint64_t host = 0;     // likewise
  std::uint64_t slot = 0;     // of one device slot; 0: nothing is streamed
  std::uint64_t staging = 0;  // of one staging buffer, a multiple of 4096; 0: no disk rows
  std::uint64_t load = 0;     // of the buffer that loading passes through, a multiple of 4096
  /// One block serves loading and then the ring.
  std::uint64_t staging_block(std::uint64_t slots) const {
    return slots * staging > load ? slots * staging : load;
  }
};

WeightSizes weight_sizes(const std::vector<LayerPlacement>& layers);

/// Where the rows of a tensor lie that are not on disk. Empty parts have rows == 0.
struct ResidentTensor {
  TensorView device;
  TensorView host;
};
using ResidentLayer = std::vector<ResidentTensor>;  // in the placement's order

using Progress = void (*)(std::uint64_t bytes, void* context);

/// Takes and fills the resident rows of all layers, through `staging` (of `sizes.load` bytes at
/// least), and tells the source what stays on disk. Nothing is in flight when it returns or throws.
std::vector<ResidentLayer> load_resident(Backend& backend, WeightSource& source,
                                         const std::vector<LayerPlacement>& layers, Arena& device,
                                         Arena& host, std::byte* staging, std::uint64_t load_bytes,
                                         Progress progress, void* progress_context);

}  // namespace sluice::offload
