// Products of a few rows with dense weights, for decode: one warp per column of the result. Bound
// by memory: the weights are read once, inputs come from cache.
#pragma once

#include "kernels/cuda/epilogue.cuh"

namespace sluice::cuda {

constexpr int kFewRowsWarps = 4;  // of a block
/// Rows of the input that go through one reading of the weights, at most.
constexpr int kFewRowsMost = 4;

/// out[m, n] = end(in[m, :] . weight[n, :]) for m < rows <= kRows, n < weight_rows. in: rows of
/// `columns` elements. in_chunks: rows of in and weight can be read so.
template <class T, int kRows>
__global__ void __launch_bounds__(kFewRowsWarps * 32)
    few_rows_kernel(ProductMatrix out, const T* in, const T* weight, int rows, std::int64_t columns,
                    std::int64_t weight_rows, ProductEnd end, bool in_chunks) {
  constexpr int kAtOnce = 4;  // loads of a lane that are on their way together
  constexpr std::int64_t kStep = 32 * kChunk;
  const std::int64_t n = std::int64_t{blockIdx.x} * kFewRowsWarps + threadIdx.x / 32;
  if (n >= weight_rows) return;
  const unsigned lane = threadIdx.x % 32;
  const T* const row = weight + n * columns;
  float sum[kRows] = {};
  float w[kAtOnce][kChunk];
  // The last row stands for those that are not there: a branch for each would have the compiler
  // make a kernel for every number of rows.
  const auto in_row = [&](int m) { return (m < rows ? m : rows - 1) * columns; };
  const auto add = [&](std::int64_t column, const float(&of_row)[kChunk]) {
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      float x[kChunk];
      read_chunk(in + in_row(m) + column, x);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sum[m] += of_row[i] * x[i];
    }
  };
  if (in_chunks) {
    std::int64_t c = std::int64_t{lane} * kChunk;
#pragma unroll 1
    for (; c + (kAtOnce - 1) * kStep < columns; c += kAtOnce * kStep) {
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) read_chunk(row + c + k * kStep, w[k]);
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) add(c + k * kStep, w[k]);
    }
#pragma unroll 1
    for (; c < columns; c += kStep) {
      read_chunk(row + c, w[0]);
      add(c, w[0]);
    }
  } else {
#pragma unroll 1
    for (std::int64_t c = lane; c < columns; c += 32) {
      const float one = widen(row[c]);
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        sum[m] += one * widen(in[in_row(m) + c]);
      }
    }
  }
  const auto m = static_cast<int>(lane);  // of the row that is this lane's to store
  float own = 0;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const float total = warp_sum(sum[i]);
    own = m == i ? total : own;
  }
  if (m < rows) out.store(m, n, end(m, n, own));
}

}  // namespace sluice::cuda
