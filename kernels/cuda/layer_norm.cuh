// Layer norm, in two passes (mean, then variance) over a row that is read from memory once and kept
// in registers. Rows that cannot be read in chunks, or are wider than a block can keep, are read
// three times, twice from cache. Bound by memory.
#pragma once

#include "kernels/cuda/chunks.cuh"

namespace sluice::cuda {

/// Of a block. A row has a warp of its own, or, if it is long, a block.
constexpr int kNormThreads = 128;
constexpr int kMostNormThreads = 1024;
constexpr int kNormChunks = 2;  // of 8 elements, in registers of a thread

/// Sum over the threads of a row, in each of them. `partial`: shared, [32], of this sum alone,
/// where they are a block.
__device__ inline float row_sum(float value, unsigned row_threads, float* partial) {
  value = warp_sum(value);
  if (row_threads == 32) return value;
  const unsigned lane = threadIdx.x % 32;
  if (lane == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_sum(lane < row_threads / 32 ? partial[lane] : 0.0F);
}

/// Words of elements that change nothing as factors and, zeros' signs included, as terms.
template <class T>
constexpr unsigned kOnes = 0x3F800000;
template <>
constexpr unsigned kOnes<__half> = 0x3C003C00;
template <>
constexpr unsigned kOnes<__nv_bfloat16> = 0x3F803F80;
template <class T>
constexpr unsigned kMinusZeros = sizeof(T) == 4 ? 0x80000000 : 0x80008000;

/// A row and the threads that are at it. out may be in.
template <class T>
struct NormRow {
  T* to;
  const T* from;
  std::int64_t columns;
  DeviceVector weight;  // each may be absent
  DeviceVector bias;
  float epsilon;
  float part;        // 1 / columns
  unsigned threads;  // 32, or those of the block
  unsigned thread;   // of the row
  float (*partial)[32];

  /// sum / columns, to the last bit: rows of equal elements have no variance.
  __device__ float mean_of(float sum) const {
    const float whole = row_sum(sum, threads, partial[0]);
    const float near = whole * part;
    return fmaf(fmaf(-static_cast<float>(columns), near, whole), part, near);
  }
  __device__ float scale_of(float squares) const {
    return rsqrtf(row_sum(squares, threads, partial[1]) * part + epsilon);
  }

  /// Eight elements of a vector from `column`; where there are none, the words `other`.
  __device__ Chunk<T> chunk_of(const void* vector, int column, unsigned other) const {
    if (vector != nullptr && column < columns) {
      return Chunk<T>::load(static_cast<const T*>(vector) + column);
    }
    Chunk<T> chunk;
#pragma unroll
    for (uint4& words : chunk.words) words = {other, other, other, other};
    return chunk;
  }

  /// Weight and bias are of T. All that a thread loads is on its way before it waits for the first.
  __device__ void in_chunks() const {
    const auto column = [&](int k) {
      return static_cast<int>(thread + static_cast<unsigned>(k) * threads) * kChunk;
    };
    Chunk<T> row[kNormChunks];
    Chunk<T> factor[kNormChunks];
    Chunk<T> term[kNormChunks];
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) row[k] = chunk_of(from, column(k), 0);
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      factor[k] = chunk_of(weight.data, column(k), kOnes<T>);
      term[k] = chunk_of(bias.data, column(k), kMinusZeros<T>);
    }
    float sum = 0;
    float value[kChunk];
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      row[k].widen(value);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sum += value[i];
    }
    const float mean = mean_of(sum);
    float squares = 0;
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      row[k].widen(value);
      float of_chunk = 0;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) of_chunk += (value[i] - mean) * (value[i] - mean);
      if (column(k) < columns) squares += of_chunk;
    }
    const float scale = scale_of(squares);
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      if (column(k) >= columns) continue;
      float weights[kChunk];
      float biases[kChunk];
      row[k].widen(value);
      factor[k].widen(weights);
      term[k].widen(biases);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        value[i] = (value[i] - mean) * scale * weights[i] + biases[i];
      }
      write_chunk(value, to + column(k));
    }
  }

  __device__ void by_elements() const {
    float sum = 0;
#pragma unroll 1
    for (std::int64_t c = thread; c < columns; c += threads) sum += widen(from[c]);
    const float mean = mean_of(sum);
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

/// out, in: [rows, columns]. part: 1 / columns. in_chunks: rows and vectors can be read so,
/// vectors are of T, and row_threads can keep a row.
template <class T>
__global__ void __launch_bounds__(kMostNormThreads)
    layer_norm_kernel(T* out, const T* in, std::int64_t rows, std::int64_t columns,
                      DeviceVector weight, DeviceVector bias, float epsilon, float part,
                      unsigned row_threads, bool in_chunks) {
  __shared__ float partial[2][32];
  const bool warps = row_threads == 32;
  const std::int64_t row = warps ? std::int64_t{blockIdx.x} * (blockDim.x / 32) + threadIdx.x / 32
                                 : std::int64_t{blockIdx.x};
  if (row >= rows) return;  // whole warps: a row that has a block is there
  const NormRow<T> work{out + row * columns,
                        in + row * columns,
                        columns,
                        weight,
                        bias,
                        epsilon,
                        part,
                        row_threads,
                        warps ? threadIdx.x % 32 : threadIdx.x,
                        partial};
  if (in_chunks) {
    work.in_chunks();
  } else {
    work.by_elements();
  }
}

}  // namespace sluice::cuda
