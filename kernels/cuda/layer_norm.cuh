// Layer norm, one block per row, in two passes over the row (mean, then variance): the row is read
// from memory once and from cache twice.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

constexpr int kNormThreads = 256;

/// Sum over the block, in every thread. `partial`: shared, [32].
__device__ inline float block_sum(float value, float* partial) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  value = warp_sum(value);
  __syncthreads();  // the last sum has been read
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return warp_sum(lane < (blockDim.x + 31) / 32 ? partial[lane] : 0.0F);
}

static __global__ void layer_norm_kernel(float* out, const float* in, std::int64_t columns,
                                         DeviceVector weight, DeviceVector bias, float epsilon) {
  __shared__ float partial[32];
  const float* const from = in + std::int64_t{blockIdx.x} * columns;
  float* const to = out + std::int64_t{blockIdx.x} * columns;
  float sum = 0;
  for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) sum += from[c];
  const float mean = block_sum(sum, partial) / static_cast<float>(columns);
  float squares = 0;
  for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    const float off = from[c] - mean;
    squares += off * off;
  }
  const float variance = block_sum(squares, partial) / static_cast<float>(columns);
  const float scale = 1.0F / sqrtf(variance + epsilon);
  for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    float value = (from[c] - mean) * scale;
    if (weight.data != nullptr) value *= element_of(weight.dtype, weight.data, c);
    if (bias.data != nullptr) value += element_of(bias.dtype, bias.data, c);
    to[c] = value;
  }
}

}  // namespace sluice::cuda
