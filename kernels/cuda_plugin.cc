// Finds the CUDA plugin. Chosen by SLUICE_CUDA=ON in the place of cuda_unavailable.cc.
#include "kernels/cuda_plugin.h"

#include "kernels/plugin.h"

namespace sluice::kernels {

bool seeks_cuda() { return true; }

Engine make_cuda_engine(const EngineOptions& options) {
  try {
    return load_engine_plugin(find_plugin(kPluginFile), options);
  } catch (const PluginProblem& problem) {
    throw CudaUnavailable(problem.what());
  }
}

}  // namespace sluice::kernels
