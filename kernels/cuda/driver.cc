#include "kernels/cuda/driver.h"

#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include "kernels/cuda/check.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

void* driver_function(const char* name, unsigned version) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  check(cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found),
        "cudaGetDriverEntryPointByVersion");
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw DeviceError(fmt::format("the NVIDIA driver has no {}; use a newer driver", name));
  }
  return function;
}

void check_driver(CUresult status, const char* call) {
  if (status == CUDA_SUCCESS) return;
  throw DeviceError(fmt::format("{}: driver error {}", call, static_cast<int>(status)));
}

}  // namespace sluice::cuda
