// Causal attention over a paged cache where the other kernels cannot: any head_dim up to
// kMostHeadDim and any dtypes, on the plain cores. One block per (sequence, tile of query rows,
// query head), with a running softmax over blocks of keys. Keys and values are expanded on their
// way to shared memory.
#pragma once

#include "kernels/cuda/kv_rows.cuh"
#include "kernels/cuda/score_rule.cuh"

namespace sluice::cuda {

constexpr int kAttentionThreads = 128;
constexpr int kAttentionRows = 8;
constexpr int kKeyBlock = 32;

/// Bytes of dynamic shared memory: query, accumulator, a block of keys or values, scores, and
/// maximum, sum and correction of each row.
constexpr std::size_t attention_shared_bytes(int head_dim) {
  constexpr std::size_t kRows = kAttentionRows;
  const auto dim = static_cast<std::size_t>(head_dim);
  return (2 * kRows * dim + kKeyBlock * (dim + 1) + kRows * kKeyBlock + 3 * kRows) * sizeof(float);
}

struct AttentionCall {
  void* out;  // [.., query_heads x head_dim], as is query
  const void* query;
  DType out_dtype;
  DType query_dtype;
  kernels::KvPages cache;
  HeadMap heads;
  kernels::KvBatch batch;
  PageDivider divider;
  std::int64_t vector_bytes;  // of the cache
  ScoreRule rule;
  int least_rows;  // sequences of fewer new tokens are not its own
};

/// Element `d` of a vector of the cache.
__device__ inline float cached_element(DType dtype, const std::byte* vector, int head_dim, int d) {
  switch (dtype) {
    case DType::q8:
      return element<DType::q8>(vector, head_dim, d);
    case DType::q4:
      return element<DType::q4>(vector, head_dim, d);
    default:
      return element_of(dtype, vector, d);
  }
}

struct AttentionBlock {
  const AttentionCall& call;
  const std::int32_t* pages;
  int kv_head;
  int rows;            // of the tile, <= kAttentionRows
  int first_position;  // of the tile's first query
  float slope;         // ALiBi's
  float* query;        // shared [kAttentionRows, dim], scaled
  float* sums;         // shared [kAttentionRows, dim]
  float* block;        // shared [kKeyBlock, dim + 1]
  float* scores;       // shared [kAttentionRows, kKeyBlock]
  float* largest;      // shared [kAttentionRows]
  float* total;        // shared [kAttentionRows]
  float* correction;   // shared [kAttentionRows]

  __device__ void bring(int first_key, int keys, bool values) {
    const int dim = call.cache.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < keys * dim; i += kAttentionThreads) {
      const int key = i / dim;
      const int d = i % dim;
      const std::byte* const vector = vector_at(call.cache, pages, call.divider, first_key + key,
                                                kv_head, values, call.vector_bytes);
      block[key * (dim + 1) + d] = cached_element(call.cache.dtype, vector, dim, d);
    }
  }

  __device__ void score(int first_key, int keys) {
    const int dim = call.cache.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < rows * kKeyBlock; i += kAttentionThreads) {
      const int row = i / kKeyBlock;
      const int key = i % kKeyBlock;
      float sum = -INFINITY;
      if (key < keys && first_key + key <= first_position + row) {
        sum = 0;
        const float* const q = query + row * dim;
        const float* const k = block + key * (dim + 1);
        for (int d = 0; d < dim; ++d) sum += q[d] * k[d];
        if (!call.rule.plain) {
          sum = call.rule(sum, slope, first_key + key - first_position - row);
        }
      }
      scores[row * kKeyBlock + key] = sum;
    }
  }

  /// One warp per row: the new maximum, exponentials in place of scores, and how much less the sums
  /// so far count.
  __device__ void exponentials() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int row = static_cast<int>(threadIdx.x) / 32; row < rows; row += kAttentionThreads / 32) {
      float* const line = scores + row * kKeyBlock;
      const float old = largest[row];
      const float high = fmaxf(old, warp_max(line[lane]));
      // Every key of a block may be in a row's future; then nothing is added.
      const float base = high == -INFINITY ? 0.0F : high;
      const float one = expf(line[lane] - base);
      line[lane] = one;
      const float sum = warp_sum(one);
      if (lane == 0) {
        correction[row] = expf(old - base);
        total[row] = total[row] * correction[row] + sum;
        largest[row] = high;
      }
    }
  }

  __device__ void add_values(int keys) {
    const int dim = call.cache.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += kAttentionThreads) {
      const int row = i / dim;
      const int d = i % dim;
      float sum = sums[i] * correction[row];
      const float* const weights = scores + row * kKeyBlock;
      for (int key = 0; key < keys; ++key) sum += weights[key] * block[key * (dim + 1) + d];
      sums[i] = sum;
    }
  }
};

/// Grid: x most_tiles() of kAttentionRows, y query heads.
static __global__ void __launch_bounds__(kAttentionThreads) attention_kernel(AttentionCall call) {
  const SequenceTile found =
      find_tile(call.batch, static_cast<int>(blockIdx.x), kAttentionRows, call.least_rows);
  const int s = found.sequence;
  if (s == call.batch.sequences) return;
  const int first = found.tile * kAttentionRows;
  const int rows = min(kAttentionRows, call.batch.new_tokens[s] - first);
  const int dim = call.cache.head_dim;
  float* const shared = dynamic_shared();
  float* const sums = shared + kAttentionRows * dim;
  float* const block = sums + kAttentionRows * dim;
  float* const scores = block + kKeyBlock * (dim + 1);
  float* const rest = scores + kAttentionRows * kKeyBlock;
  const int position = call.batch.context[s] - call.batch.new_tokens[s] + first;
  AttentionBlock tile{call,
                      call.batch.pages + std::int64_t{s} * call.batch.max_pages,
                      call.heads.kv_head(static_cast<int>(blockIdx.y)),
                      rows,
                      position,
                      call.rule.slope(static_cast<int>(blockIdx.y)),
                      shared,
                      sums,
                      block,
                      scores,
                      rest,
                      rest + kAttentionRows,
                      rest + 2 * kAttentionRows};
  const std::int64_t width = std::int64_t{call.heads.query_heads} * dim;
  const std::int64_t at =
      (std::int64_t{call.batch.first_row[s]} + first) * width + std::int64_t{blockIdx.y} * dim;
  for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += kAttentionThreads) {
    tile.query[i] =
        element_of(call.query_dtype, call.query, at + i / dim * width + i % dim) * call.rule.factor;
    tile.sums[i] = 0;
  }
  for (int row = static_cast<int>(threadIdx.x); row < rows; row += kAttentionThreads) {
    tile.largest[row] = -INFINITY;
    tile.total[row] = 0;
  }
  const int visible = position + rows;  // keys that the last row sees
  for (int key = call.rule.first_key(position); key < visible; key += kKeyBlock) {
    const int keys = min(visible - key, kKeyBlock);
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
  for (int i = static_cast<int>(threadIdx.x); i < rows * dim; i += kAttentionThreads) {
    put_element(call.out_dtype, call.out, at + i / dim * width + i % dim,
                tile.sums[i] / tile.total[i / dim]);
  }
}

}  // namespace sluice::cuda
