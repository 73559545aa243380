#include "tests/support/cuda_emulation/driver.h"

#include <cuda_runtime_api.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "tests/support/cuda_emulation/device.h"

namespace sluice::emulated {

namespace {

CUresult error_name(CUresult error, const char** name) {
  switch (error) {
#define EMULATED_NAME(code) \
  case code:                \
    *name = #code;          \
    return CUDA_SUCCESS;
    EMULATED_NAME(CUDA_ERROR_INVALID_VALUE)
    EMULATED_NAME(CUDA_ERROR_INVALID_DEVICE)
    EMULATED_NAME(CUDA_ERROR_INVALID_HANDLE)
    EMULATED_NAME(CUDA_ERROR_NOT_SUPPORTED)
    EMULATED_NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
#undef EMULATED_NAME
    default:
      *name = nullptr;
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult attribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  if (device < 0 || device >= settings().devices) return CUDA_ERROR_INVALID_DEVICE;
  if (attribute != CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  *value = settings().stream_memory_operations ? 1 : 0;
  return CUDA_SUCCESS;
}

/// Two devices of one PCI id, as instances of a GPU are, differ in it.
CUresult uuid(CUuuid* id, CUdevice device) {
  if (device < 0 || device >= settings().devices) return CUDA_ERROR_INVALID_DEVICE;
  for (std::size_t i = 0; i < sizeof id->bytes; ++i) id->bytes[i] = static_cast<char>(0xE0 + i);
  id->bytes[15] = static_cast<char>(device);
  return CUDA_SUCCESS;
}

}  // namespace

}  // namespace sluice::emulated

using namespace sluice::emulated;

extern "C" cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                                        unsigned long long,
                                                        cudaDriverEntryPointQueryResult* found) {
  const std::array<std::pair<const char*, void*>, 5> functions = {{
      {"cuStreamWaitValue64", reinterpret_cast<void*>(&wait_value)},
      {"cuStreamWriteValue64", reinterpret_cast<void*>(&write_value)},
      {"cuGetErrorName", reinterpret_cast<void*>(&error_name)},
      {"cuDeviceGetAttribute", reinterpret_cast<void*>(&attribute)},
      {"cuDeviceGetUuid", reinterpret_cast<void*>(&uuid)},
  }};
  *function = module_function(name);
  for (const auto& [known, address] : functions) {
    if (std::strcmp(name, known) == 0) *function = address;
  }
  const bool known = *function != nullptr;
  if (found != nullptr) {
    *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  }
  return known ? cudaSuccess
               : answer(cudaErrorInvalidValue, std::string(name) + " is not emulated");
}
