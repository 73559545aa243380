// The driver's functions, asked for by name. The plugin does not link with libcuda, so that it can
// be loaded, and say what is missing, where there is no driver.
#pragma once

#include <cuda.h>

#include <string>

namespace sluice::cuda {

/// As CUDA `version` has it (12040: 12.4), on the current device. Throws DeviceError where the
/// driver has none.
void* driver_function(const char* name, unsigned version);

/// Throws DeviceError "cuStreamWaitValue64: CUDA_ERROR_INVALID_VALUE". `call` is a literal.
void check_driver(CUresult status, const char* call);

/// Throws DeviceError.
int device_attribute(CUdevice_attribute attribute, int device);

/// Of the GPU, or of the instance of one (MIG) that this process sees as `device`:
/// "3b1c9f60-5d0e-4c0b-9d5e-0a7f3c2b1d00". Throws DeviceError.
std::string device_uuid(int device);

}  // namespace sluice::cuda
