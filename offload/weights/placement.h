// Which rows of which weight lie in which tier: a pure function of shapes and shares, byte-exact to
// the shares within one row.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "offload/policy.h"
#include "offload/weights/weight_source.h"

namespace sluice::offload {

/// What a stage asks for: a layer is a list of tensors that are needed together.
struct WeightSpec {
  std::string name;  // canonical: "layers.3.fc1.weight"
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};
struct LayerSpec {
  std::string name;  // "layer 3", "embedding", "output head"
  std::vector<WeightSpec> tensors;
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
struct LayerPlacement {
  std::string name;
  std::vector<TensorPlacement> tensors;  // in LayerSpec's order
  std::uint64_t bytes(Tier tier) const;
  std::uint64_t total_bytes() const;
  /// Bytes of a device slot for the host and disk rows of this layer (every tensor's streamed rows
  /// padded to 64 bytes); 0 when all rows are on the device.
  std::uint64_t slot_bytes() const;
};

/// Cuts each layer's tensors, taken one after the other, where the running shares say; a cut falls
/// between rows, and what a cut was off by is made good by the next ones, so that over all layers
/// each tier's bytes are within one row of its share. Tensors of one row are never split.
std::vector<LayerPlacement> place_weights(const std::vector<LayerSpec>& layers,
                                          const Shares& shares, WeightSource& source);

}  // namespace sluice::offload
