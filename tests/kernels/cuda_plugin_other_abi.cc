// A plugin of another build, whose factory must not be called.
#include <cstdlib>

#include "kernels/cuda_plugin.h"

namespace sluice::kernels {

int sluice_engine_abi() noexcept { return kEngineAbi + 1; }

bool sluice_make_engine(const EngineOptions*, Engine*, char*, std::size_t) { std::abort(); }

}  // namespace sluice::kernels
