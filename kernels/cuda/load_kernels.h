// Kernels are loaded when first launched, and a load may wait for all that the device is doing
// (CUDA programming guide, "Lazy Loading"): one GPU stands still for it, and two that wait for each
// other's messages may stand still for good.
#pragma once

namespace sluice::cuda {

/// Loads every kernel of this library on the current device; returns how many. Throws DeviceError.
int load_kernels();

}  // namespace sluice::cuda
