// A plugin that fails in the way its device says.
#include <cstring>
#include <exception>

#include "kernels/cuda_plugin.h"

namespace {

struct Wordless : std::exception {
  const char* what() const noexcept override { return ""; }
};

}  // namespace

namespace sluice::kernels {

int sluice_engine_abi() noexcept { return kEngineAbi; }

bool sluice_make_engine(const EngineOptions* options, Engine*, char* reason, std::size_t bytes) {
  const std::string& device = options->device;
  if (device == "cuda:1") throw DeviceError("cudaGetDeviceCount: cudaErrorUnknown");
  if (device == "cuda:2") throw 2;
  if (device == "cuda:3") throw Wordless();
  if (device == "cuda:4") return true;   // and the engine is empty
  if (device == "cuda:5") return false;  // and there is no reason
  if (device == "cuda:6") {
    std::memset(reason, 'x', bytes);  // and no closing zero
    return false;
  }
  std::strncpy(reason, "no CUDA device is visible", bytes - 1);
  return false;
}

}  // namespace sluice::kernels
