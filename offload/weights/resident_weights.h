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

namespace sluice::offload {

/// Memory of a ring of buffers, which the streamed layers fill in turn. Two neighbours share a
/// block, one from its begin and one from its end: a large layer (the embedding of a small model)
/// is never there twice, so that a block need only hold it and the layer beside it.
class RingLayout {
 public:
  RingLayout() = default;
  /// `bytes`: what each streamed layer takes of a buffer, in cyclic order.
  RingLayout(const std::vector<std::uint64_t>& bytes, std::size_t slots);

  std::uint64_t total() const { return total_; }  // 0: nothing is streamed
  /// Where a layer of so many bytes begins in `slot`.
  std::uint64_t offset(std::size_t slot, std::uint64_t bytes) const;

 private:
  std::uint64_t pair_ = 0;
  std::uint64_t total_ = 0;
};

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
  RingLayout slots;          // on the device
  StagingSizes staging;      // in the host
  std::uint64_t load = 0;    // of the buffer that loading passes through, a multiple of 4096
  /// One block serves loading and then the ring.
  std::uint64_t staging_block() const {
    return std::max(std::uint64_t{staging.count} * staging.bytes, load);
  }
};

WeightSizes weight_sizes(const std::vector<LayerPlacement>& layers, std::size_t slots);

/// Where the rows of a tensor lie that are not on disk. Empty parts have rows == 0.
struct ResidentTensor {
  TensorView device;
  TensorView host;
};
using ResidentLayer = std::vector<ResidentTensor>;  // in the placement's order

using Progress = void (*)(std::uint64_t bytes, void* context);

/// Takes and fills the resident rows of all layers, through `staging` (of `sizes.load` bytes at
/// least), and tells the source what stays on disk, whose room it reserves before all else. Nothing
/// is in flight when it returns or throws.
std::vector<ResidentLayer> load_resident(Backend& backend, WeightSource& source,
                                         const std::vector<LayerPlacement>& layers, Arena& device,
                                         Arena& host, std::byte* staging, std::uint64_t load_bytes,
                                         Progress progress, void* progress_context);

}  // namespace sluice::offload
