// Causal attention over a paged cache, ragged: one block per (sequence, tile of query rows, head),
// running softmax over blocks of keys, so that no matrix of scores is ever in memory. Keys and
// values are expanded as they are brought to shared memory.
//
// Decode (kRows == 1) is bound by reading the cache. Prefill (kRows == 16) reads it once for every
// 16 query rows, and computes on the plain cores: 4 kRows 64 head_dim flop a block of keys.
#pragma once

#include "kernels/cuda/append_kv.cuh"

namespace sluice::cuda {

constexpr int kAttentionThreads = 128;
constexpr int kKeyBlock = 64;

/// Bytes of dynamic shared memory: query, accumulator, a block of keys or values, scores, and
/// maximum, sum and correction of each row.
constexpr std::size_t attention_shared_bytes(int rows, int head_dim) {
  const auto count = static_cast<std::size_t>(rows);
  const auto dim = static_cast<std::size_t>(head_dim);
  return (2 * count * dim + kKeyBlock * (dim + 1) + count * kKeyBlock + 3 * count) * sizeof(float);
}

template <DType kType, int kRows>
struct AttentionBlock {
  const kernels::KvPages& cache;
  const std::int32_t* pages;
  int head;
  int rows;                     // of the tile, <= kRows
  std::int64_t first_position;  // of the tile's first query
  float* query;                 // shared [kRows, dim], scaled
  float* sums;                  // shared [kRows, dim]
  float* block;                 // shared [kKeyBlock, dim + 1]
  float* scores;                // shared [kRows, kKeyBlock]
  float* largest;               // shared [kRows]
  float* total;                 // shared [kRows]
  float* correction;            // shared [kRows]

  __device__ void bring(std::int64_t first_key, int keys, bool values) {
    const int dim = cache.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < keys * dim; i += blockDim.x) {
      const int key = i / dim;
      const int d = i % dim;
      const std::byte* const vector = vector_at<kType>(cache, pages, first_key + key, head, values);
      block[key * (dim + 1) + d] = element<kType>(vector, dim, d);
    }
  }

  __device__ void score(std::int64_t first_key, int keys) {
    const int dim = cache.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < rows * kKeyBlock; i += blockDim.x) {
      const int row = i / kKeyBlock;
      const int key = i % kKeyBlock;
      float sum = -INFINITY;
      if (key < keys && first_key + key <= first_position + row) {
        sum = 0;
        const float* const q = query + row * dim;
        const float* const k = block + key * (dim + 1);
        for (int d = 0; d < dim; ++d) sum += q[d] * k[d];
      }
      scores[row * kKeyBlock + key] = sum;
    }
  }

  /// One warp per row: the new maximum, exponentials in place of scores, and how much less the sums
  /// so far count.
  __device__ void exponentials() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warps = static_cast<int>(blockDim.x) / 32;
    for (int row = static_cast<int>(threadIdx.x) / 32; row < rows; row += warps) {
      float* const line = scores + row * kKeyBlock;
      const float old = largest[row];
      const float high = fmaxf(old, warp_max(fmaxf(line[lane], line[lane + 32])));
      // Every key of a block may be in a row's future; then nothing is added.
      const float base = high == -INFINITY ? 0.0F : high;
      const float one = expf(line[lane] - base);
      const float other = expf(line[lane + 32] - base);
      line[lane] = one;
      line[lane + 32] = other;
      const float sum = warp_sum(one + other);
      if (lane == 0) {
        correction[row] = expf(old - base);
        total[row] = total[row] * correction[row] + sum;
        largest[row] = high;
      }
    }
  }

  __device__ void add_values(int keys) {
    const int dim = cache.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += blockDim.x) {
      const int row = i / dim;
      const int d = i % dim;
      float sum = sums[i] * correction[row];
      const float* const weights = scores + row * kKeyBlock;
      for (int key = 0; key < keys; ++key) sum += weights[key] * block[key * (dim + 1) + d];
      sums[i] = sum;
    }
  }
};

/// Grid: x sequences x tiles, y heads. out, query: [.., heads x head_dim].
template <DType kType, int kRows>
__global__ void attention_kernel(float* out, const float* query, kernels::KvPages cache,
                                 kernels::KvBatch batch, int tiles, float scale) {
  float* const shared = dynamic_shared();
  const int s = static_cast<int>(blockIdx.x) / tiles;
  const int first = static_cast<int>(blockIdx.x) % tiles * kRows;
  const int rows = min(kRows, batch.new_tokens[s] - first);
  if (rows <= 0) return;
  const int dim = cache.head_dim;
  float* const sums = shared + kRows * dim;
  float* const block = sums + kRows * dim;
  float* const scores = block + kKeyBlock * (dim + 1);
  float* const rest = scores + kRows * kKeyBlock;
  const std::int64_t position = batch.context[s] - batch.new_tokens[s] + first;
  AttentionBlock<kType, kRows> tile{cache,
                                    batch.pages + std::int64_t{s} * batch.max_pages,
                                    static_cast<int>(blockIdx.y),
                                    rows,
                                    position,
                                    shared,
                                    sums,
                                    block,
                                    scores,
                                    rest,
                                    rest + kRows,
                                    rest + 2 * kRows};
  const std::int64_t width = std::int64_t{cache.heads} * dim;
  const std::int64_t at = (batch.first_row[s] + first) * width + std::int64_t{blockIdx.y} * dim;
  for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += blockDim.x) {
    tile.query[i] = query[at + i / dim * width + i % dim] * scale;
    tile.sums[i] = 0;
  }
  for (int row = static_cast<int>(threadIdx.x); row < rows; row += blockDim.x) {
    tile.largest[row] = -INFINITY;
    tile.total[row] = 0;
  }
  const std::int64_t visible = position + rows;  // keys that the last row sees
  for (std::int64_t key = 0; key < visible; key += kKeyBlock) {
    const int keys = static_cast<int>(visible - key < kKeyBlock ? visible - key : kKeyBlock);
    __syncthreads();
    tile.bring(key, keys, false);
    __syncthreads();
    tile.score(key, keys);
    __syncthreads();
    tile.exponentials();
    tile.bring(key, keys, true);
    __syncthreads();
    tile.add_values(keys);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += blockDim.x) {
    out[at + i / dim * width + i % dim] = tile.sums[i] / tile.total[i / dim];
  }
}

}  // namespace sluice::cuda
