// Kernel launches as calls of a function: one source serves nvcc and, in tests, the host compiler,
// which has no <<<>>> (tests/support/cuda_on_host.h has the other launch()).
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"

namespace sluice::cuda {

/// kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...). Throws DeviceError, naming the
/// kernel, where the launch is refused; what fails while it runs comes out of the next
/// synchronisation.
template <class... Parameters, class... Arguments>
void launch(const char* name, cudaStream_t stream, dim3 blocks, unsigned threads,
            std::size_t shared_bytes, void (*kernel)(Parameters...), Arguments... arguments) {
  kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...);
  check(cudaGetLastError(), name);
}

}  // namespace sluice::cuda
#endif
