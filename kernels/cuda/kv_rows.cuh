// Where keys and values lie in the pages, and eight elements of them at a time, for a lane.
//
// A lane holds two quads of neighbouring elements: [first_element(), + 4) and kSecondQuad further
// on. Eight in a row, but for q4, a byte of which holds elements 32 apart.
#pragma once

#include <type_traits>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/chunks.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace sluice::cuda {

/// Positions, which are not negative, divided by page_tokens: by a multiplication with a rounded-up
/// reciprocal (Granlund and Montgomery, "Division by Invariant Integers using Multiplication",
/// 1994, theorem 4.2).
struct PageDivider {
  std::int32_t tokens;
  std::uint32_t reciprocal;  // 2^(31 + shift) / tokens
  std::int32_t shift;        // 2^shift is tokens, or the next power of two

  __device__ std::int32_t page(std::int32_t position) const {
    return static_cast<std::int32_t>(
        __umulhi(2 * static_cast<std::uint32_t>(position), reciprocal) >> shift);
  }
};

inline PageDivider page_divider(std::int32_t page_tokens) {
  std::int32_t shift = 0;
  while (std::int64_t{1} << shift < page_tokens) ++shift;
  const auto tokens = static_cast<std::uint64_t>(page_tokens);
  const std::uint64_t reciprocal = ((std::uint64_t{1} << (31 + shift)) + tokens - 1) / tokens;
  return {page_tokens, static_cast<std::uint32_t>(reciprocal), shift};
}

/// Bytes from cache.base to the vectors of the token at `position`; head_offset() leads from there
/// to the vector of a KV head. vector_bytes: row_bytes of the cache's dtype and head_dim.
__device__ inline std::int64_t token_offset(const kernels::KvPages& cache,
                                            const std::int32_t* pages, PageDivider divider,
                                            std::int32_t position, std::int64_t vector_bytes) {
  const std::int32_t page = divider.page(position);
  const std::int32_t slot = position - page * divider.tokens;
  return pages[page] * cache.page_stride_bytes + slot * vector_bytes;
}

/// `values`: to the KV head's value, else its key.
__device__ inline std::int64_t head_offset(const kernels::KvPages& cache, int kv_head, bool values,
                                           std::int64_t vector_bytes) {
  return std::int64_t{(values ? cache.kv_heads : 0) + kv_head} * cache.page_tokens * vector_bytes;
}

/// Where KV head `kv_head` of the token at `position` lies.
__device__ inline std::byte* vector_at(const kernels::KvPages& cache, const std::int32_t* pages,
                                       PageDivider divider, std::int32_t position, int kv_head,
                                       bool values, std::int64_t vector_bytes) {
  return static_cast<std::byte*>(cache.base) +
         token_offset(cache, pages, divider, position, vector_bytes) +
         head_offset(cache, kv_head, values, vector_bytes);
}

/// The heads of a query and those of the cache: several query heads may share a KV head.
struct HeadMap {
  int query_heads;
  int group;  // query heads of a KV head

  __device__ int kv_head(int query_head) const { return query_head / group; }
};

inline HeadMap head_map(const TensorView& query, const kernels::KvPages& cache) {
  const int query_heads = query_heads_of(query, cache);
  return {query_heads, query_heads / cache.kv_heads};
}

/// Some rows of one sequence: what a block of a ragged kernel works at.
struct SequenceTile {
  int sequence;  // batch.sequences: none
  int tile;
  int tiles;  // of the sequence
};

/// Sequences of a batch cut into tiles of `tile_rows` new tokens, numbered on: tile `index` of
/// them, or none. Those of fewer than `least_rows` new tokens have none. Every thread of the warp
/// calls.
__device__ inline SequenceTile find_tile(const kernels::KvBatch& batch, int index, int tile_rows,
                                         int least_rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int first = 0; first < batch.sequences; first += 32) {
    const auto tiles_of = [&](int s) {
      if (s >= batch.sequences || batch.new_tokens[s] < least_rows) return 0;
      return (batch.new_tokens[s] + tile_rows - 1) / tile_rows;
    };
    int sum = tiles_of(first + lane);
    for (int distance = 16; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
    }
    if (index >= sum) {
      index -= sum;
      continue;
    }
    for (int s = first;; ++s) {
      const int tiles = tiles_of(s);
      if (index < tiles) return {s, index, tiles};
      index -= tiles;
    }
  }
  return {batch.sequences, 0, 0};
}

/// Blocks that find_tile() needs at most, for activations of `rows` rows.
inline std::int64_t most_tiles(std::int64_t rows, std::int32_t sequences, int tile_rows) {
  return rows / tile_rows + sequences;
}

template <DType kType>
constexpr bool kPacked = kType == DType::q8 || kType == DType::q4;

template <DType kType>
constexpr int kSecondQuad = kType == DType::q4 ? 32 : 4;

template <DType kType>
__device__ inline int first_element(int lane) {
  return kType == DType::q4 ? lane / 8 * 64 + lane % 8 * 4 : lane * 8;
}

/// A lane's eight elements, as they lie in the cache.
template <DType kType>
struct PackedEight {
  uint4 bits[kType == DType::f32 ? 2 : 1];  // q8: x, y codes, z scale; q4: x codes, z scale
};

/// Needs rows that are 16-byte aligned and whole eights of elements (f32, f16, bf16), or 4-byte
/// aligned (q8, q4). The lane's first element must lie in the row, or in its last group.
template <DType kType>
__device__ inline PackedEight<kType> load_eight(const std::byte* row, int columns, int lane) {
  PackedEight<kType> packed;
  if constexpr (kPacked<kType>) {
    const int groups = (columns + 63) / 64;
    const auto* const words = reinterpret_cast<const unsigned*>(row);
    const int of_scales = groups * (kType == DType::q8 ? 16 : 8);
    packed.bits[0].x = words[kType == DType::q8 ? lane * 2 : lane];
    packed.bits[0].y = kType == DType::q8 ? words[lane * 2 + 1] : 0U;
    packed.bits[0].z = words[of_scales + lane / 8];
    packed.bits[0].w = 0;
  } else {
    const auto* const pieces = reinterpret_cast<const uint4*>(row);
    constexpr int kPieces = kType == DType::f32 ? 2 : 1;
    for (int i = 0; i < kPieces; ++i) packed.bits[i] = pieces[lane * kPieces + i];
  }
  return packed;
}

__device__ inline float2 widen_pair(unsigned bits, __half) {
  return {__half2float(__ushort_as_half(static_cast<unsigned short>(bits & 0xFFFFU))),
          __half2float(__ushort_as_half(static_cast<unsigned short>(bits >> 16U)))};
}
__device__ inline float2 widen_pair(unsigned bits, __nv_bfloat16) {
  return {__uint_as_float(bits << 16U), __uint_as_float(bits & 0xFFFF0000U)};
}

/// The codes of a lane's elements become floats of value kCodeBias + code, by bits alone.
template <DType kType>
constexpr float kCodeBias = kType == DType::q8 ? 256.0F : 16.0F;

/// The four codes of a word of q8: a code goes to the top of the mantissa.
__device__ inline void widen_bytes(unsigned word, float* to) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned moved = i < 2 ? word << (15 - 8 * i) : word >> (8 * i - 15);
    to[i] = __uint_as_float(and_or(moved, 0x7F8000U, __float_as_uint(kCodeBias<DType::q8>)));
  }
}
/// The eight codes of a word of q4, the low ones of its bytes first: a code comes to bits 3 to 6 of
/// its byte, under a one, and that byte goes before the last one, 0x41, of a float.
__device__ inline void widen_nibbles(unsigned word, float (&to)[8]) {
  static_assert(kCodeBias<DType::q4> == 16.0F);  // 0x41800000
  const unsigned low = and_or(word << 3U, 0x78787878U, 0x80808080U);
  const unsigned high = and_or(word >> 1U, 0x78787878U, 0x80808080U);
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    to[i] = __uint_as_float(__byte_perm(low, 0x41000000U, 0x7044U | i << 8U));
    to[4 + i] = __uint_as_float(__byte_perm(high, 0x41000000U, 0x7044U | i << 8U));
  }
}

/// The elements of a lane are to[i] * scale + shift; scale 1 and shift 0 but for q8 and q4.
struct ScaleShift {
  float scale;
  float shift;
};
template <DType kType>
__device__ inline ScaleShift widen_eight(const PackedEight<kType>& packed, float (&to)[8]) {
  const uint4& bits = packed.bits[0];
  if constexpr (kPacked<kType>) {
    if constexpr (kType == DType::q8) {
      widen_bytes(bits.x, to);
      widen_bytes(bits.y, to + 4);
    } else {
      widen_nibbles(bits.x, to);
    }
    const float2 factors = widen_pair(bits.z, __half{});  // scale, minimum
    return {factors.x, factors.y - kCodeBias<kType> * factors.x};
  } else if constexpr (kType == DType::f32) {
    for (int i = 0; i < 2; ++i) {
      to[4 * i] = __uint_as_float(packed.bits[i].x);
      to[4 * i + 1] = __uint_as_float(packed.bits[i].y);
      to[4 * i + 2] = __uint_as_float(packed.bits[i].z);
      to[4 * i + 3] = __uint_as_float(packed.bits[i].w);
    }
    return {1.0F, 0.0F};
  } else {
    using T = typename Element<kType>::Type;
    const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
    for (int i = 0; i < 4; ++i) {
      const float2 pair = widen_pair(words[i], T{});
      to[2 * i] = pair.x;
      to[2 * i + 1] = pair.y;
    }
    return {1.0F, 0.0F};
  }
}

/// Writes to element `index` of a row of f32, f16 or bf16.
__device__ inline void put_element(DType dtype, void* row, std::int64_t index, float value) {
  switch (dtype) {
    case DType::f16:
      return narrow(value, static_cast<__half*>(row) + index);
    case DType::bf16:
      return narrow(value, static_cast<__nv_bfloat16*>(row) + index);
    default:
      return narrow(value, static_cast<float*>(row) + index);
  }
}

}  // namespace sluice::cuda
