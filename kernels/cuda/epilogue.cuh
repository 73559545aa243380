// What stands around a matrix product: inputs narrowed to the weights' dtype, then bias, activation
// and residual of the result. Bound by memory.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

/// to[i] = from[i]. T: __half or __nv_bfloat16.
template <class T>
__global__ void narrow_kernel(T* to, const float* from, std::int64_t count) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    narrow(from[i], to + i);
  }
}

/// Rows of q8 or q4 as dense rows of f16. One block per row.
template <DType kType>
__global__ void expand_kernel(__half* to, const std::byte* from, std::int64_t columns) {
  const std::byte* const row = from + std::int64_t{blockIdx.x} * row_bytes<kType>(columns);
  for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    narrow(element<kType>(row, columns, c), to + std::int64_t{blockIdx.x} * columns + c);
  }
}

__device__ inline float activate(kernels::Activation activation, float value) {
  switch (activation) {
    case kernels::Activation::relu:
      return value < 0.0F ? 0.0F : value;  // not a maximum: that would turn NaN into 0
    case kernels::Activation::gelu:
      return 0.5F * value * (1.0F + erff(value * 0.70710678118654752F));
    default:
      return value;
  }
}

/// out[r, c] = activation(out[r, c] + bias[c]) + residual[r, c]; residual may be null, or another
/// matrix than out.
static __global__ void epilogue_kernel(float* out, std::int64_t rows, std::int64_t columns,
                                       DeviceVector bias, kernels::Activation activation,
                                       const float* residual) {
  const std::int64_t count = rows * columns;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    float value = out[i];
    if (bias.data != nullptr) value += element_of(bias.dtype, bias.data, i % columns);
    value = activate(activation, value);
    if (residual != nullptr) value += residual[i];
    out[i] = value;
  }
}

}  // namespace sluice::cuda
