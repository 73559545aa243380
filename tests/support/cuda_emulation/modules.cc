// Kernels as the driver sees them: a module each, there from the beginning.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/driver.h"

namespace sluice::emulated {

namespace {

CUresult module_of(CUmodule* module, CUfunction function) {
  *module = reinterpret_cast<CUmodule>(function);
  return CUDA_SUCCESS;
}

CUresult count_of(unsigned* count, CUmodule) {
  *count = 1;
  return CUDA_SUCCESS;
}

CUresult list(CUfunction* functions, unsigned count, CUmodule module) {
  if (count != 1) return CUDA_ERROR_INVALID_VALUE;
  *functions = reinterpret_cast<CUfunction>(module);
  return CUDA_SUCCESS;
}

CUresult load(CUfunction function) {
  return function != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace

void* module_function(const char* name) {
  const std::array<std::pair<const char*, void*>, 4> functions = {{
      {"cuFuncGetModule", reinterpret_cast<void*>(&module_of)},
      {"cuModuleGetFunctionCount", reinterpret_cast<void*>(&count_of)},
      {"cuModuleEnumerateFunctions", reinterpret_cast<void*>(&list)},
      {"cuFuncLoad", reinterpret_cast<void*>(&load)},
  }};
  for (const auto& [known, function] : functions) {
    if (std::strcmp(name, known) == 0) return function;
  }
  return nullptr;
}

}  // namespace sluice::emulated

extern "C" cudaError_t cudaGetFuncBySymbol(cudaFunction_t* function, const void* symbol) {
  *function = static_cast<cudaFunction_t>(const_cast<void*>(symbol));
  return sluice::emulated::answer(symbol != nullptr ? cudaSuccess : cudaErrorInvalidDeviceFunction);
}
