// How keys and values come to the shared memory of prefill attention, a block of kPrefillKeys at a
// time. ldmatrix reads eight 16-byte chunks of a matrix, one of each row; rows are laid out so that
// these chunks are in different banks.
#pragma once

#include "kernels/cuda/kv_rows.cuh"
#include "kernels/cuda/score_rule.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace sluice::cuda {

constexpr int kPrefillThreads = 128;
constexpr int kPrefillRows = 128;
constexpr int kPrefillKeys = 32;
constexpr int kWarpRows = 32;

/// Lanes that hold some of a vector, eight elements each.
template <DType kType>
constexpr int lanes_in(int head_dim) {
  return kType == DType::q4 ? head_dim / 64 * 8 + (head_dim % 64 < 32 ? head_dim % 64 / 4 : 8)
                            : head_dim / 8;
}

/// Rows of 8 or 16 chunks are as they are, their chunks exchanged; others have an odd number.
template <int kDim>
constexpr bool kExchanged = kDim % 64 == 0;
/// Elements between rows in shared memory.
template <int kDim>
constexpr int kPrefillStride = kExchanged<kDim> ? kDim : (kDim / 8 | 1) * 8;

/// Where chunk `chunk` of row `row` begins, in elements.
template <int kDim>
__device__ inline int chunk_at(int row, int chunk) {
  return row * kPrefillStride<kDim> + (kExchanged<kDim> ? chunk ^ row % 8 : chunk) * 8;
}
/// Where the chunk lies that is `d` elements, whole pairs of chunks, behind the even or odd one at
/// `at`, which is one of a row's first two.
template <int kDim>
__device__ inline int chunk_behind(int at, int d) {
  return kExchanged<kDim> ? at ^ d : at + d;
}

/// Bytes of dynamic shared memory: queries, keys, values, and where two blocks of tokens lie.
template <int kDim>
constexpr std::size_t kPrefillSharedBytes = std::size_t{kPrefillRows + 2 * kPrefillKeys} *
                                                kPrefillStride<kDim> * sizeof(__half) +
                                            2 * kPrefillKeys * sizeof(std::int64_t);

struct PrefillCall {
  void* out;  // [.., query_heads x head_dim] of T, as is query
  const void* query;
  kernels::KvPages cache;
  HeadMap heads;
  kernels::KvBatch batch;
  PageDivider divider;
  std::int64_t vector_bytes;  // of the cache
  ScoreRule rule;             // in log2(e); its factor is > 0
  float scale;                // of products where the rule is plain, else of scores: 1
};

/// Where the tokens of a block of keys lie, found once for all chunks of its keys and values. ask()
/// loads the page; put() stores the offset, once the page has likely arrived. The threads of one
/// warp do both, a thread for each key. Two blocks are kept in turn; `first` is the position of the
/// block's first key. From `end` on, and before `begin`, a token that is seen stands in: those keys
/// are added without weight.
struct PrefillTokens {
  const PrefillCall& call;
  const std::int32_t* pages;
  int begin;
  int end;
  std::int64_t* offsets;  // shared [2, kPrefillKeys], as token_offset()
  std::int32_t page = 0;

  __device__ int position(int first) const {
    return max(begin, min(first + static_cast<int>(threadIdx.x), end - 1));
  }
  __device__ void ask(int first) {
    if (threadIdx.x < kPrefillKeys) page = pages[call.divider.page(position(first))];
  }
  __device__ void put(int first) const {
    if (threadIdx.x >= kPrefillKeys) return;
    const int at = position(first);
    const int slot = at - call.divider.page(at) * call.divider.tokens;
    block(first)[threadIdx.x] = page * call.cache.page_stride_bytes + slot * call.vector_bytes;
  }
  __device__ std::int64_t* block(int first) const { return offsets + first % (2 * kPrefillKeys); }
};

/// Brings the keys, or the values, of a block to a tile in shared memory, a row each: eight
/// elements at a time, of which a thread has the same ones of every kRows-th row. They are there
/// after a wait for copies and a barrier. What must be expanded is on its way to registers from
/// ask() on, of the same block and kind as the next bring(). kType: of the cache.
template <class T, int kDim, DType kType>
struct PrefillSource {
  static constexpr bool kDirect = kType == (std::is_same_v<T, __half> ? DType::f16 : DType::bf16);
  static constexpr int kStride = kPrefillStride<kDim>;
  static constexpr int kLanes = lanes_in<kType>(kDim);
  static constexpr int kRows = kPrefillThreads / kLanes;
  static constexpr int kTurns = (kPrefillKeys + kRows - 1) / kRows;
  static_assert(!kExchanged<kDim> || kRows % 8 == 0);
  // None: copies need no registers, and there are not enough for f32 of 128.
  static constexpr int kAsked = kDirect || (kType == DType::f32 && kDim == 128) ? 0 : kTurns;

  const std::byte* keys;  // of this KV head, of a token at offset 0
  std::int64_t to_values;
  PackedEight<kType> asked[kTurns] = {};

  /// Of this thread: its first row, and its lane.
  __device__ static int row() { return static_cast<int>(threadIdx.x) / kLanes; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
  /// Whether there is a row `turn` * kRows further on. (Threads beyond the last whole one of kRows
  /// bring what others bring in the next turn.)
  __device__ static bool has(int turn) {
    static_assert(kRows * kLanes == kPrefillThreads || kPrefillKeys % kRows != 0);
    return (turn + 1) * kRows <= kPrefillKeys || turn * kRows + row() < kPrefillKeys;
  }

  __device__ PackedEight<kType> load(int turn, const std::int64_t* offsets, bool values) const {
    return load_eight<kType>(keys + (values ? to_values : 0) + offsets[turn * kRows + row()], kDim,
                             lane());
  }

  /// offsets: PrefillTokens::block().
  __device__ void ask(const std::int64_t* offsets, bool values) {
#pragma unroll
    for (int turn = 0; turn < kAsked; ++turn) {
      if (has(turn)) asked[turn] = load(turn, offsets, values);
    }
  }

  __device__ void bring(T* tile, const std::int64_t* offsets, bool values) const {
    if constexpr (kDirect) {
      copy(tile + chunk_at<kDim>(row(), lane()), offsets,
           keys + (values ? to_values : 0) + lane() * 16);
    } else {
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        if (!has(turn)) continue;
        expand(kAsked > 0 ? asked[turn] : load(turn, offsets, values),
               tile + turn * kRows * kStride);
      }
    }
  }

  __device__ void copy(T* to, const std::int64_t* offsets, const std::byte* from) const {
    // All offsets first: a copy behind a load of shared memory waits for it.
    std::int64_t at[kTurns];
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      if (has(turn)) at[turn] = offsets[turn * kRows + row()];
    }
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      if (has(turn)) copy_async_16(to + turn * kRows * kStride, from + at[turn], true);
    }
    commit_copies();
  }

  /// To this thread's row of those from `tile` on.
  __device__ void expand(const PackedEight<kType>& packed, T* tile) const {
    float wide[8];
    const ScaleShift of = widen_eight<kType>(packed, wide);
    std::uint32_t pair[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pair[i] =
          narrow_word<T>(wide[2 * i] * of.scale + of.shift, wide[2 * i + 1] * of.scale + of.shift);
    }
    const int first = first_element<kType>(lane());
    T* const to = tile + chunk_at<kDim>(row(), first / 8) + first % 8;
    if constexpr (kSecondQuad<kType> == 4) {
      *reinterpret_cast<uint4*>(to) = {pair[0], pair[1], pair[2], pair[3]};
    } else {
      const int second = first + kSecondQuad<kType>;
      *reinterpret_cast<uint2*>(to) = {pair[0], pair[1]};
      if (second >= kDim) return;
      *reinterpret_cast<uint2*>(tile + chunk_at<kDim>(row(), second / 8) + second % 8) = {pair[2],
                                                                                          pair[3]};
    }
  }
};

}  // namespace sluice::cuda
