// RMS norm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019). A row is read twice,
// the second time from cache. Bound by memory.
#pragma once

#include "kernels/cuda/layer_norm.cuh"

namespace sluice::cuda {

/// out, in: [rows, columns]; out may be in. part: 1 / columns. in_chunks: rows and weight can be
/// read so. row_threads: of a row, 32 or those of the block.
template <class T>
__global__ void __launch_bounds__(kMostNormThreads)
    rms_norm_kernel(T* out, const T* in, std::int64_t rows, std::int64_t columns,
                    DeviceVector weight, float epsilon, float offset, float part,
                    unsigned row_threads, bool in_chunks) {
  __shared__ float partial[32];
  const bool warps = row_threads == 32;
  const std::int64_t row = warps ? std::int64_t{blockIdx.x} * (blockDim.x / 32) + threadIdx.x / 32
                                 : std::int64_t{blockIdx.x};
  if (row >= rows) return;  // whole warps: a row that has a block is there
  const T* const from = in + row * columns;
  T* const to = out + row * columns;
  const unsigned thread = warps ? threadIdx.x % 32 : threadIdx.x;
  const std::int64_t first = std::int64_t{thread} * (in_chunks ? kChunk : 1);
  const std::int64_t step = std::int64_t{row_threads} * (in_chunks ? kChunk : 1);
  float values[kChunk];
  float squares = 0;
#pragma unroll 1
  for (std::int64_t c = first; c < columns; c += step) {
    if (in_chunks) {
      read_chunk(from + c, values);
#pragma unroll
      for (const float value : values) squares += value * value;
    } else {
      const float value = widen(from[c]);
      squares += value * value;
    }
  }
  const float scale = rsqrtf(row_sum(squares, row_threads, partial) * part + epsilon);
#pragma unroll 1
  for (std::int64_t c = first; c < columns; c += step) {
    if (in_chunks) {
      float factors[kChunk] = {};
      read_chunk(from + c, values);
      if (weight.data != nullptr) read_chunk_of(weight.dtype, weight.data, c, factors);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        values[i] *= scale * (weight.data != nullptr ? offset + factors[i] : 1.0F);
      }
      write_chunk(values, to + c);
    } else {
      const float factor =
          weight.data != nullptr ? offset + element_of(weight.dtype, weight.data, c) : 1.0F;
      narrow(widen(from[c]) * (scale * factor), to + c);
    }
  }
}

}  // namespace sluice::cuda
