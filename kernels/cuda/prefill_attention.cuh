// Causal attention of sequences with several new tokens over a paged cache, on tensor cores, with
// a running softmax (FlashAttention-2: no matrix of scores in memory). A block has kPrefillRows
// query rows of one query head, a warp 32 of them. Blocks of kPrefillKeys keys and values come to
// shared memory while the block before is computed.
#pragma once

#include "kernels/cuda/prefill_source.cuh"

namespace sluice::cuda {

/// 32 query rows of a warp: two fragments of 16, m = 0 and 1. Of a fragment this lane has row
/// lane / 4 (half 0) and that + 8 (half 1). kKeep: queries stay in registers.
template <class T, int kDim, bool kKeep>
struct PrefillWarp {
  static constexpr int kStride = kPrefillStride<kDim>;

  int lane;
  float scale;     // of scores, to powers of two
  const T* query;  // shared, this warp's rows
  std::uint32_t kept[kKeep ? kDim / 16 : 1][2][4] = {};
  float out[2][kDim / 8][4] = {};
  float largest[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};  // not scaled
  float total[2][2] = {};                                                  // of this lane's columns
  float scores[2][kPrefillKeys / 8][4] = {};

  /// Of the queries' columns [d, d + 16).
  __device__ void load_query(int d, std::uint32_t (&a)[2][4]) const {
    const T* const q = query + chunk_behind<kDim>(chunk_at<kDim>(lane % 16, lane / 16), d);
    load_matrix_x4(a[0], q);
    load_matrix_x4(a[1], q + 16 * kStride);
  }
  /// Once they are in shared memory.
  __device__ void keep_query() {
#pragma unroll
    for (int d = 0; d < kDim; d += 16) load_query(d, kept[d / 16]);
  }

  /// scores = query keys^T.
  __device__ void score(const T* keys) {
#pragma unroll
    for (auto& row : scores) {
#pragma unroll
      for (auto& tile : row) {
#pragma unroll
        for (float& value : tile) value = 0;
      }
    }
    const int in_keys = chunk_at<kDim>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int d = 0; d < kDim; d += 16) {
      std::uint32_t a[2][4];
      if constexpr (kKeep) {
        memcpy(a, kept[d / 16], sizeof(a));
      } else {
        load_query(d, a);
      }
      const T* const k = keys + chunk_behind<kDim>(in_keys, d);
#pragma unroll
      for (int n = 0; n < kPrefillKeys / 8; n += 2) {
        std::uint32_t b[4];
        load_matrix_x4(b, k + n * 8 * kStride);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_16x8x16<T>(scores[m][n], a[m], b[0], b[1]);
          mma_16x8x16<T>(scores[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  /// What the rule makes of the products; their scale is 1 then. `ahead`: see mask().
  __device__ void apply(const ScoreRule& rule, float slope, int ahead) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kPrefillKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = ahead + n * 8 + lane % 4 * 2 + i % 2;
          const int row = m * 16 + lane / 4 + i / 2 * 8;
          float& value = scores[m][n][i];
          value = rule.template operator()<true>(value * rule.factor, slope, key - row);
        }
      }
    }
  }

  /// Keys that a row does not see yet. `ahead`: position of the first key less the warp's first.
  __device__ void mask(int ahead) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kPrefillKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = ahead + n * 8 + lane % 4 * 2 + i % 2;
          const int row = m * 16 + lane / 4 + i / 2 * 8;
          if (key > row) scores[m][n][i] = -INFINITY;
        }
      }
    }
  }

  /// Scores of the next keys, -infinity of those that a row does not see. `ahead`: see mask().
  __device__ void look(const T* keys, const ScoreRule& rule, int head, int ahead) {
    score(keys);
    if (!rule.plain) apply(rule, rule.slope(head), ahead);
    if (ahead + kPrefillKeys > 1) mask(ahead);
  }

  /// Weights in place of scores; sums so far count less where there is a larger score.
  __device__ void exponentials() {
    float factor[2][2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) factor[m][half] = weigh(m, half);
    }
    // A factor of 1 changes no bit. NaN is not 1.
    const bool all_one =
        factor[0][0] == 1 && factor[0][1] == 1 && factor[1][0] == 1 && factor[1][1] == 1;
    if (__all_sync(0xFFFFFFFFU, all_one)) return;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out[m][n][i] *= factor[m][i / 2];
      }
    }
  }

  /// exponentials() of a row, but for `out`: what that is to be multiplied by.
  __device__ float weigh(int m, int half) {
    float high = largest[m][half];
#pragma unroll
    for (int n = 0; n < kPrefillKeys / 8; ++n) {
      high = fmaxf(high, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
    }
    high = fmaxf(high, __shfl_xor_sync(0xFFFFFFFFU, high, 1));
    high = fmaxf(high, __shfl_xor_sync(0xFFFFFFFFU, high, 2));
    const float base = high == -INFINITY ? 0.0F : high * scale;
    // Not computed where it is 1: as one multiplication and addition it would come out beside it.
    const float factor =
        high == largest[m][half] ? 1.0F : exp2_fast(largest[m][half] * scale - base);
    largest[m][half] = high;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kPrefillKeys / 8; ++n) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        scores[m][n][i] = exp2_fast(scores[m][n][i] * scale - base);
        sum += scores[m][n][i];
      }
    }
    total[m][half] = total[m][half] * factor + sum;
    return factor;
  }

  /// out += weights values; weights rounded to T.
  __device__ void add(const T* values) {
    const int in_values = chunk_at<kDim>(lane % 16, lane / 16);
#pragma unroll
    for (int key = 0; key < kPrefillKeys; key += 16) {
      std::uint32_t a[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* const pair = scores[m][key / 8 + i / 2] + i % 2 * 2;
          a[m][i] = narrow_word<T>(pair[0], pair[1]);
        }
      }
#pragma unroll
      for (int n = 0; n < kDim / 8; n += 2) {
        std::uint32_t b[4];
        load_matrix_x4_transposed(b, values + chunk_behind<kDim>(in_values, n * 8) + key * kStride);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_16x8x16<T>(out[m][n], a[m], b[0], b[1]);
          mma_16x8x16<T>(out[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  /// to: the warp's first row, rows `width` apart.
  __device__ void store(T* to, std::int64_t width, int rows) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = total[m][half];
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
        const float inverse = 1.0F / sum;
        const int row = m * 16 + half * 8 + lane / 4;
        if (row >= rows) continue;
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
          *reinterpret_cast<std::uint32_t*>(to + row * width + n * 8 + lane % 4 * 2) =
              narrow_word<T>(out[m][n][2 * half] * inverse, out[m][n][2 * half + 1] * inverse);
        }
      }
    }
  }
};

/// The query rows of a block.
struct PrefillBlock {
  int sequence;  // batch.sequences: none
  int first;     // of the sequence's new tokens
  int rows;      // <= kPrefillRows
  int position;  // of the first one
};

__device__ inline PrefillBlock prefill_block(const kernels::KvBatch& batch) {
  const SequenceTile found = find_tile(batch, static_cast<int>(blockIdx.x), kPrefillRows, 2);
  const int s = found.sequence;
  if (s == batch.sequences) return {s, 0, 0, 0};
  // The last rows see most keys, and are begun first.
  const int first = (found.tiles - 1 - found.tile) * kPrefillRows;
  return {s, first, min(kPrefillRows, batch.new_tokens[s] - first),
          batch.context[s] - batch.new_tokens[s] + first};
}

/// Starts to copy `rows` rows, `width` apart, to the shared rows at `query`; the others become 0.
template <class T, int kDim>
__device__ inline void bring_queries(T* query, const T* from, int rows, std::int64_t width) {
  constexpr int kChunks = kDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kPrefillRows * kChunks; i += kPrefillThreads) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    copy_async_16(query + chunk_at<kDim>(row, chunk), from + min(row, rows - 1) * width + chunk * 8,
                  row < rows);
  }
  commit_copies();
}

/// Where registers allow it with as many blocks on a multiprocessor.
template <int kDim, bool kDirect>
constexpr bool kKeepsQuery = kDim == 80 || (kDim == 64 && !kDirect);

/// Grid: x most_tiles() of kPrefillRows, y query heads. T: __half or __nv_bfloat16, of activations;
/// kType: of the cache.
template <class T, int kDim, DType kType>
__global__ void __launch_bounds__(kPrefillThreads,
                                  kDim == 64 && PrefillSource<T, kDim, kType>::kDirect ? 3 : 2)
    prefill_attention_kernel(PrefillCall call) {
  if constexpr (kTensorCores) {
    using Source = PrefillSource<T, kDim, kType>;
    constexpr int kStride = kPrefillStride<kDim>;
    constexpr bool kKeep = kKeepsQuery<kDim, Source::kDirect>;
    const auto [s, first, rows, position] = prefill_block(call.batch);
    if (s == call.batch.sequences) return;
    const int head = static_cast<int>(blockIdx.y);
    const std::int64_t width = std::int64_t{call.heads.query_heads} * kDim;
    const std::int64_t at =
        (std::int64_t{call.batch.first_row[s]} + first) * width + std::int64_t{head} * kDim;
    T* const query = reinterpret_cast<T*>(dynamic_shared());
    T* const keys = query + kPrefillRows * kStride;
    T* const values = keys + kPrefillKeys * kStride;
    const int end = position + rows;  // keys that the last row sees
    const int begin = call.rule.first_key(position);
    const int first_block = begin / kPrefillKeys * kPrefillKeys;
    PrefillTokens tokens{call, call.batch.pages + std::int64_t{s} * call.batch.max_pages, begin,
                         end, reinterpret_cast<std::int64_t*>(values + kPrefillKeys * kStride)};
    for (const int block : {first_block, first_block + kPrefillKeys}) {
      tokens.ask(block);
      tokens.put(block);
    }

    bring_queries<T, kDim>(query, static_cast<const T*>(call.query) + at, rows, width);
    Source source{static_cast<const std::byte*>(call.cache.base) +
                      head_offset(call.cache, call.heads.kv_head(head), false, call.vector_bytes),
                  head_offset(call.cache, 0, true, call.vector_bytes)};
    __syncthreads();  // the tokens' offsets are there
    source.ask(tokens.block(first_block), false);
    source.bring(keys, tokens.block(first_block), false);
    source.ask(tokens.block(first_block), true);

    const int of_warp = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
    PrefillWarp<T, kDim, kKeep> warp{static_cast<int>(threadIdx.x) % 32, call.scale,
                                     query + of_warp * kStride};
    if constexpr (kKeep) {
      wait_copies<0>();
      __syncthreads();  // queries are there
      warp.keep_query();
    }
    for (int key = first_block; key < end; key += kPrefillKeys) {
      // Whether this warp has rows, and they see any of these keys.
      const bool sees = of_warp < rows && key < position + of_warp + kWarpRows;
      wait_copies<0>();
      __syncthreads();  // keys, and the next block's offsets, are there, and the last values read
      tokens.ask(key + 2 * kPrefillKeys);
      source.bring(values, tokens.block(key), true);
      if (key + kPrefillKeys < end) source.ask(tokens.block(key + kPrefillKeys), false);
      if (sees) warp.look(keys, call.rule, head, key - position - of_warp);
      wait_copies<0>();
      __syncthreads();  // values are there, and the keys, and this block's offsets, read
      tokens.put(key + 2 * kPrefillKeys);
      if (key + kPrefillKeys < end) {
        source.bring(keys, tokens.block(key + kPrefillKeys), false);
        source.ask(tokens.block(key + kPrefillKeys), true);
      }
      if (sees) {
        warp.exponentials();
        warp.add(values);
      }
    }
    if (of_warp < rows) {
      warp.store(static_cast<T*>(call.out) + at + of_warp * width, width, rows - of_warp);
    }
  }
}

}  // namespace sluice::cuda
