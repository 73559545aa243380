// How many bytes of a GPU batch's hidden states are at home in each tier: arithmetic over shapes
// and shares, without a device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "offload/activations/activation_store.h"

namespace sluice::offload {

constexpr std::size_t kSharedBuffers = 2;  // on the device, where some rows are at home elsewhere
constexpr std::size_t kStagings = 2;       // between the device and the file

bool all_on_device(const Shares& shares);

/// Most bytes a GPU batch has at home in each tier.
struct HomeBytes {
  std::uint64_t buffer = 0;  // of the whole GPU batch
  PerTier<std::uint64_t> tier = {};
};
HomeBytes home_bytes(const ActivationShape& shape, const Shares& shares);

}  // namespace sluice::offload
