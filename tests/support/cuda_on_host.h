// Runs CUDA kernels on the host, one block after the other, each thread of a block a fiber: so that
// index and ragged-edge errors are found before any GPU is there. Include it before the .cuh files,
// and link cuda_on_host. Barriers and shuffles work as on the device; memory order does not: what a
// missing __syncthreads() breaks may still be right here (cuda_emulation/orders.h finds some).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "tests/support/cuda_emulation/block.h"
#include "tests/support/cuda_emulation/intrinsics.h"
#include "tests/support/cuda_tensor_core.h"

#undef __shared__
#define __shared__ static  // one block at a time
#undef __launch_bounds__
#define __launch_bounds__(...)

// #pragma unroll
#pragma GCC diagnostic ignored "-Wunknown-pragmas"

#define threadIdx (::sluice::support::cuda_place.thread)
#define blockIdx (::sluice::support::cuda_place.block)
#define blockDim (::sluice::support::cuda_place.threads)
#define gridDim (::sluice::support::cuda_place.blocks)

namespace sluice::cuda {
inline float* host_shared() { return reinterpret_cast<float*>(support::dynamic_shared_memory()); }
}  // namespace sluice::cuda
using std::max;
using std::min;
