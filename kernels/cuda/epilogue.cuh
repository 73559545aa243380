// What stands around a matrix product: inputs converted to the weights' dtype, weights expanded,
// then bias, activation and residual of the result. Bound by memory. On RowGrid (dispatch.cuh).
#pragma once

#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/product_views.h"

namespace sluice::cuda {

/// to[i] = from[i], for `count` elements: a matrix of one row.
static __global__ void convert_kernel(void* to, DType to_dtype, const void* from, DType from_dtype,
                                      std::int64_t count, bool in_chunks) {
  const std::int64_t first = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kChunk;
  if (first + kChunk <= count && in_chunks) {
    float values[kChunk];
    read_chunk_of(from_dtype, from, first, values);
    write_chunk_of(to_dtype, values, to, first);
    return;
  }
#pragma unroll 1
  for (std::int64_t i = first; i < count && i < first + kChunk; ++i) {
    store_element(to_dtype, element_of(from_dtype, from, i), to, i);
  }
}

/// Rows of q8 or q4 as dense rows of f16 or bf16.
template <DType kType>
__global__ void expand_kernel(void* to, DType to_dtype, const std::byte* from, std::int64_t columns,
                              bool in_chunks) {
  const std::int64_t column = chunk_column();
  if (column >= columns) return;
  const std::byte* const row = from + std::int64_t{blockIdx.x} * row_bytes<kType>(columns);
  const std::int64_t at = std::int64_t{blockIdx.x} * columns;
  if (in_chunks) {
    float values[kChunk];
    read_row_chunk<kType>(row, columns, column, values);
    write_chunk_of(to_dtype, values, to, at + column);
    return;
  }
#pragma unroll 1
  for (std::int64_t c = column; c < columns && c < column + kChunk; ++c) {
    store_element(to_dtype, element<kType>(row, columns, c), to, at + c);
  }
}

/// x sigmoid(z); of an infinite x it would be NaN where the result is 0.
__device__ inline float times_sigmoid(float x, float z) {
  return x == -INFINITY ? -0.0F : x / (1.0F + expf(-z));
}

__device__ inline float activate(kernels::Activation activation, float value) {
  switch (activation) {
    case kernels::Activation::relu:
      return value < 0.0F ? 0.0F : value;  // not a maximum: that would turn NaN into 0
    case kernels::Activation::gelu:
      // x Phi(x). Below -14.5 it is 0 in f32, and of an infinity it would be NaN.
      return value < -14.5F ? -0.0F : 0.5F * value * erfcf(value * -0.70710678118654752F);
    case kernels::Activation::gelu_tanh:
      // (1 + tanh(u)) / 2 is sigmoid(2 u), which loses no digits where tanh(u) is near -1.
      return times_sigmoid(value,
                           1.59576912160573072F * fmaf(0.044715F * value * value, value, value));
    case kernels::Activation::quick_gelu:
      return times_sigmoid(value, 1.702F * value);
    case kernels::Activation::silu:
      return times_sigmoid(value, value);
    default:
      return value;
  }
}

/// What is done to the sums of a product. Views begin at its first column.
struct ProductEnd {
  DeviceVector bias;
  kernels::Activation activation;
  DeviceVector residual;
  std::int64_t residual_stride;  // elements from row to row
  Combine combine;

  __device__ float with_residual(float value, float residual_value) const {
    return combine == Combine::multiply ? value * residual_value : value + residual_value;
  }

  __device__ float operator()(std::int64_t row, std::int64_t column, float sum) const {
    if (bias.data != nullptr) sum += element_of(bias.dtype, bias.data, column);
    sum = activate(activation, sum);
    if (residual.data != nullptr) {
      sum = with_residual(
          sum, element_of(residual.dtype, residual.data, row * residual_stride + column));
    }
    return sum;
  }

  __device__ void operator()(std::int64_t row, std::int64_t column, float (&sums)[kChunk]) const {
    float other[kChunk];
    if (bias.data != nullptr) {
      read_chunk_of(bias.dtype, bias.data, column, other);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sums[i] += other[i];
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sums[i] = activate(activation, sums[i]);
    if (residual.data != nullptr) {
      read_chunk_of(residual.dtype, residual.data, row * residual_stride + column, other);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sums[i] = with_residual(sums[i], other[i]);
    }
  }
};

/// A matrix of f32, f16 or bf16 that results go to or come from.
struct ProductMatrix {
  void* data;
  DType dtype;
  std::int64_t stride;  // elements from row to row

  __device__ void store(std::int64_t row, std::int64_t column, float value) const {
    store_element(dtype, value, data, row * stride + column);
  }
};

/// out[r, c] = end(from[r, c]). `from` and the residual may be out. in_chunks: rows of all of them
/// can be read and written so.
static __global__ void epilogue_kernel(ProductMatrix out, ProductMatrix from, std::int64_t columns,
                                       ProductEnd end, bool in_chunks) {
  const std::int64_t column = chunk_column();
  if (column >= columns) return;
  const std::int64_t row = blockIdx.x;
  if (in_chunks && column + kChunk <= columns) {
    float values[kChunk];
    read_chunk_of(from.dtype, from.data, row * from.stride + column, values);
    end(row, column, values);
    write_chunk_of(out.dtype, values, out.data, row * out.stride + column);
    return;
  }
#pragma unroll 1
  for (std::int64_t c = column; c < columns && c < column + kChunk; ++c) {
    out.store(row, c, end(row, c, element_of(from.dtype, from.data, row * from.stride + c)));
  }
}

}  // namespace sluice::cuda
