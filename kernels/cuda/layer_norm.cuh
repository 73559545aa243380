// Layer norm, in two passes (mean, then variance) over a row that is read from memory once and kept
// in registers. Rows that cannot be read in chunks, are wider than a block can keep, or have not
// both vectors, of their own dtype, are read three times, twice from cache. Bound by memory.
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

  /// Weight and bias are there and of T. All that a thread loads is on its way before it waits for
  /// the first; beyond the row it loads the row's last, and takes no notice.
  __device__ void in_chunks() const {
    const int end = static_cast<int>(columns);
    const auto column = [&](int k) {
      return static_cast<int>(thread + static_cast<unsigned>(k) * threads) * kChunk;
    };
    const auto load = [&](const void* row, int k) {
      return Chunk<T>::load(static_cast<const T*>(row) + min(column(k), end - kChunk));
    };
    Chunk<T> row[kNormChunks];
    Chunk<T> factor[kNormChunks];
    Chunk<T> term[kNormChunks];
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) row[k] = load(from, k);
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      factor[k] = load(weight.data, k);
      term[k] = load(bias.data, k);
    }
    // Without this nvcc would delay the loads of the vectors until the row has come.
    const unsigned nothing = threads >> 16U;
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
#pragma unroll
      for (int i = 0; i < Chunk<T>::kWords; ++i) {
        row[k].words[i].x |= (factor[k].words[i].x | term[k].words[i].x) & nothing;
      }
    }
    float sum = 0;
    float value[kChunk];
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      row[k].widen(value);
      float of_chunk = 0;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) of_chunk += value[i];
      if (column(k) < end) sum += of_chunk;
    }
    const float mean = mean_of(sum);
    float squares = 0;
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      row[k].widen(value);
      float of_chunk = 0;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) of_chunk += (value[i] - mean) * (value[i] - mean);
      if (column(k) < end) squares += of_chunk;
    }
    const float scale = scale_of(squares);
#pragma unroll
    for (int k = 0; k < kNormChunks; ++k) {
      if (column(k) >= end) continue;
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
/// both vectors are there and of T, and row_threads can keep a row.
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
