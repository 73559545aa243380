// Layer norm, in two passes (mean, then variance) over a row that is read from memory once and kept
// in registers. Rows that cannot be read in chunks, or are wider than a block can keep, are read
// three times, twice from cache. Bound by memory.
#pragma once

#include "kernels/cuda/chunks.cuh"

namespace sluice::cuda {

/// Of a block. A row has a warp of its own, or, if it is long, a block.
constexpr int kNormThreads = 128;
constexpr int kMostNormThreads = 512;
constexpr int kNormChunks = 4;  // of 8 elements, in registers of a thread

/// Sum over the threads of a row, in each of them. `partial`: shared, [32], where they are a block.
__device__ inline float row_sum(float value, unsigned row_threads, float* partial) {
  value = warp_sum(value);
  if (row_threads == 32) return value;
  const unsigned lane = threadIdx.x % 32;
  __syncthreads();  // the last sum has been read
  if (lane == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_sum(lane < row_threads / 32 ? partial[lane] : 0.0F);
}

/// A row and the threads that are at it. out may be in.
template <class T>
struct NormRow {
  T* to;
  const T* from;
  std::int64_t columns;
  DeviceVector weight;  // each may be absent
  DeviceVector bias;
  float epsilon;
  unsigned threads;  // 32, or those of the block
  unsigned thread;   // of the row
  float* partial;

  __device__ float scale_of(float squares) const {
    const float variance = row_sum(squares, threads, partial) / static_cast<float>(columns);
    return 1.0F / sqrtf(variance + epsilon);
  }

  __device__ void in_chunks() const {
    float kept[kNormChunks][kChunk];
    const std::int64_t step = std::int64_t{threads} * kChunk;
    const std::int64_t first = std::int64_t{thread} * kChunk;
    float sum = 0;
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      if (first + k * step >= columns) continue;
      read_chunk(from + first + k * step, kept[k]);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sum += kept[k][i];
    }
    const float mean = row_sum(sum, threads, partial) / static_cast<float>(columns);
    float squares = 0;
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      if (first + k * step >= columns) continue;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        kept[k][i] -= mean;
        squares += kept[k][i] * kept[k][i];
      }
    }
    const float scale = scale_of(squares);
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      const std::int64_t column = first + k * step;
      if (column >= columns) continue;
      float other[kChunk];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) kept[k][i] *= scale;
      if (weight.data != nullptr) {
        read_chunk_of(weight.dtype, weight.data, column, other);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) kept[k][i] *= other[i];
      }
      if (bias.data != nullptr) {
        read_chunk_of(bias.dtype, bias.data, column, other);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) kept[k][i] += other[i];
      }
      write_chunk(kept[k], to + column);
    }
  }

  __device__ void by_elements() const {
    float sum = 0;
#pragma unroll 1
    for (std::int64_t c = thread; c < columns; c += threads) sum += widen(from[c]);
    const float mean = row_sum(sum, threads, partial) / static_cast<float>(columns);
    float squares = 0;
#pragma unroll 1
    for (std::int64_t c = thread; c < columns; c += threads) {
      const float off = widen(from[c]) - mean;
      squares += off * off;
    }
    const float scale = scale_of(squares);
#pragma unroll 1
    for (std::int64_t c = thread; c < columns; c += threads) {
      float value = (widen(from[c]) - mean) * scale;
      if (weight.data != nullptr) value *= element_of(weight.dtype, weight.data, c);
      if (bias.data != nullptr) value += element_of(bias.dtype, bias.data, c);
      narrow(value, to + c);
    }
  }
};

/// out, in: [rows, columns]. in_chunks: rows and vectors can be read so, and row_threads can keep a
/// row.
template <class T>
__global__ void __launch_bounds__(kMostNormThreads)
    layer_norm_kernel(T* out, const T* in, std::int64_t rows, std::int64_t columns,
                      DeviceVector weight, DeviceVector bias, float epsilon, unsigned row_threads,
                      bool in_chunks) {
  __shared__ float partial[32];
  const std::int64_t row =
      std::int64_t{blockIdx.x} * (blockDim.x / row_threads) + threadIdx.x / row_threads;
  if (row >= rows) return;  // whole warps: a row that has a block is there
  const NormRow<T> work{
      out + row * columns, in + row * columns,        columns, weight, bias, epsilon,
      row_threads,         threadIdx.x % row_threads, partial};
  if (in_chunks) {
    work.in_chunks();
  } else {
    work.by_elements();
  }
}

}  // namespace sluice::cuda
