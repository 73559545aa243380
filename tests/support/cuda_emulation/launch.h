// The launch() of kernels/cuda/launch.cuh for the host compiler: puts a kernel on an emulated
// stream. Include it before anything of a .cu file.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <tuple>

#include "kernels/cuda/check.h"
#include "tests/support/cuda_on_host.h"

namespace sluice::emulated {

/// Refuses what the device would; else puts `thread`, which every thread of the grid runs, on the
/// stream.
cudaError_t launch(const char* name, cudaStream_t stream, dim3 blocks, unsigned threads,
                   std::size_t shared_bytes, const void* kernel, std::function<void()> thread);

}  // namespace sluice::emulated

namespace sluice::cuda {

template <class... Parameters, class... Arguments>
void launch(const char* name, cudaStream_t stream, dim3 blocks, unsigned threads,
            std::size_t shared_bytes, void (*kernel)(Parameters...), Arguments... arguments) {
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  check(emulated::launch(name, stream, blocks, threads, shared_bytes,
                         reinterpret_cast<const void*>(kernel),
                         [kernel, values] { std::apply(kernel, values); }),
        name);
}

}  // namespace sluice::cuda

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return ::cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
