// Stands in for the finder of the CUDA plugin in builds with SLUICE_CUDA=OFF, and refuses by name.
#include "kernels/cuda_plugin.h"

namespace sluice::kernels {

bool seeks_cuda() { return false; }

Engine make_cuda_engine(const EngineOptions&) {
  throw CudaUnavailable("this build has no CUDA plugin (it was configured with SLUICE_CUDA=OFF)");
}

}  // namespace sluice::kernels
