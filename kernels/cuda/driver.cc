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
  const auto name_of = reinterpret_cast<CUresult (*)(CUresult, const char**)>(
      driver_function("cuGetErrorName", 6000));
  const char* name = nullptr;
  if (name_of(status, &name) != CUDA_SUCCESS || name == nullptr) {
    throw DeviceError(fmt::format("{}: driver error {}", call, static_cast<int>(status)));
  }
  throw DeviceError(fmt::format("{}: {}", call, name));
}

int device_attribute(CUdevice_attribute attribute, int device) {
  const auto get = reinterpret_cast<CUresult (*)(int*, CUdevice_attribute, CUdevice)>(
      driver_function("cuDeviceGetAttribute", 2000));
  int value = 0;
  check_driver(get(&value, attribute, device), "cuDeviceGetAttribute");
  return value;
}

std::string device_uuid(int device) {
  // The first version of this function does not tell instances of a GPU apart.
  const auto get =
      reinterpret_cast<CUresult (*)(CUuuid*, CUdevice)>(driver_function("cuDeviceGetUuid", 11040));
  CUuuid uuid = {};
  check_driver(get(&uuid, device), "cuDeviceGetUuid");
  std::string text;
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

}  // namespace sluice::cuda
