// Stands in for the CUDA plugin's loader in builds without it, and refuses by name.
#include "kernels/device/error.h"
#include "kernels/engine.h"

namespace sluice::kernels {

Engine make_cuda_engine(const EngineOptions&) {
  throw ConfigError(
      "CUDA backend unavailable: this build has no CUDA plugin; use device: cpu, or auto");
}

}  // namespace sluice::kernels
