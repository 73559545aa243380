// A plugin that makes nothing.
#include "kernels/cuda_plugin.h"

namespace sluice::kernels {

int sluice_engine_abi() noexcept { return kEngineAbi; }

}  // namespace sluice::kernels
