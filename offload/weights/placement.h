// Which rows of which weight lie in which tier: a pure function of shapes and shares. It meets the
// shares within one row.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "offload/policy.h"
#include "offload/weights/weight_source.h"

namespace sluice::offload {

/// Tensors that are leased together.
struct GroupSpec {
  std::string name;  // "layer 3", "layer 3 attention", "embedding", "output head"
  std::vector<WeightSpec> tensors;
  /// Neighbours with the same number >= 0 are one layer: the shares cut it as a whole, and its
  /// streamed rows share a slot of the ring. -1: the group is a layer by itself.
  std::int32_t layer = -1;
};

/// rows[tier] rows of the tensor, in the order device, host, disk from row 0.
struct TensorPlacement {
  WeightInfo info;
  PerTier<std::int64_t> rows = {};
  std::size_t row_bytes() const { return row_bytes_of(info.dtype, info.columns); }
  std::uint64_t bytes(Tier tier) const {
    return static_cast<std::uint64_t>(rows[static_cast<std::size_t>(tier)]) * row_bytes();
  }
};
struct GroupPlacement {
  std::string name;
  std::vector<TensorPlacement> tensors;  // in GroupSpec's order
  std::int32_t layer = -1;               // GroupSpec's
  std::uint64_t bytes(Tier tier) const;
  std::uint64_t total_bytes() const;
  /// Device bytes for the host and disk rows of this group (every tensor's streamed rows padded to
  /// 64 bytes); 0 when all rows are on the device.
  std::uint64_t slot_bytes() const;
};

/// Cuts each layer's tensors, taken one after the other, where the running shares say. A cut falls
/// between rows, and the next cuts make good what it was off by: over all layers each tier's bytes
/// are within one row of its share. Tensors of one row are never split. One placement for each
/// spec. Throws InputError for a tensor that is not there or has another shape.
std::vector<GroupPlacement> place_weights(const std::vector<GroupSpec>& groups,
                                          const Shares& shares, WeightSource& source);

}  // namespace sluice::offload
