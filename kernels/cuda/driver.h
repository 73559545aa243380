// The driver's functions, which are asked for by name: libcuda is not linked with, so that the
// plugin loads, and says so, where there is no driver.
#pragma once

#include <cuda.h>

namespace sluice::cuda {

/// As CUDA `version` has it (12040: 12.4), on the current device. Throws DeviceError where the
/// driver has none.
void* driver_function(const char* name, unsigned version);

/// Throws DeviceError. `call` is a literal.
void check_driver(CUresult status, const char* call);

}  // namespace sluice::cuda
