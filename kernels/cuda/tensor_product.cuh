// Products of some rows of 16-bit activations with q8 or q4 weights on tensor cores: codes become
// 16-bit integers in registers, which are exact, and of one group of 64 weights, with one scale and
// one minimum,
//   dot = scale * sum(code * x) + minimum * sum(x),
// both sums by tensor cores, in f32. The weights are read once, each by one lane; inputs come from
// cache. Bound by memory for few rows; beyond some 32 by the tensor cores.
//
// Which element is which k of a fragment (tensor_core.cuh) is free, if it is the same one in
// weights and inputs. A lane (g = lane / 4, t = lane % 4) has 16 elements of a group of rows g and
// g + 8 of the weights, and the same ones of row g of the input, as two chunks of 8:
//   q4: t * 8.. and 32 + t * 8.., the low and the high halves of 8 bytes;  q8: t * 16.., 16 bytes.
// Chunks are 4 pairs, and two pairs of a lane go into each of 4 steps.
#pragma once

#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace sluice::cuda {

constexpr int kTensorWarps = 8;            // of a block; each has every 8th part of the columns
constexpr std::int64_t kTensorPart = 256;  // columns: a lane has 4 groups on their way
constexpr int kTensorGroups = 4;

/// Two codes, the low four bits of the halves of a word, as elements of X.
template <class X>
__device__ inline std::uint32_t small_codes(std::uint32_t codes) {
  // Or'ed into the last bits of 1024 (bf16: 128), a code is added to it.
  constexpr bool kHalf = std::is_same_v<X, __half>;
  constexpr std::uint32_t kBase = kHalf ? 0x64006400U : 0x43004300U;
  typename PairOf<X>::Type pair;
  typename PairOf<X>::Type base;
  const std::uint32_t word = and_or(codes, 0x000F000FU, kBase);
  memcpy(static_cast<void*>(&pair), &word, sizeof(word));
  memcpy(static_cast<void*>(&base), &kBase, sizeof(word));
  pair = __hsub2(pair, base);
  std::uint32_t result = 0;
  memcpy(&result, &pair, sizeof(result));
  return result;
}

/// Two bytes of `word`: 0 and 1, or 2 and 3.
template <class X>
__device__ inline std::uint32_t byte_codes(std::uint32_t word, bool high) {
  if constexpr (std::is_same_v<X, __half>) {
    constexpr std::uint32_t kBase = 0x64006400U;
    const std::uint32_t sum = __byte_perm(word, 0x64646464U, high ? 0x4342 : 0x4140);
    __half2 pair;
    __half2 base;
    memcpy(static_cast<void*>(&pair), &sum, sizeof(sum));
    memcpy(static_cast<void*>(&base), &kBase, sizeof(sum));
    pair = __hsub2(pair, base);
    std::uint32_t result = 0;
    memcpy(&result, &pair, sizeof(result));
    return result;
  } else {
    const std::uint32_t two = high ? word >> 16U : word;
    return narrow_word<X>(static_cast<float>(two & 255U), static_cast<float>(two >> 8U & 255U));
  }
}

/// A lane's share of a group of one row of weights.
template <DType kType>
struct TensorCodes {
  using Words = std::conditional_t<kType == DType::q8, uint4, uint2>;
  Words words;
  std::uint32_t scale;  // and minimum

  __device__ void load(const std::byte* row, std::int64_t columns, std::int64_t group, unsigned t) {
    constexpr std::int64_t kCodes = kType == DType::q8 ? kQuantGroup : kQuantGroup / 2;
    words = load_aligned<Words>(row + group * kCodes + t * sizeof(Words));
    scale = load_aligned<std::uint32_t>(row + columns / kQuantGroup * kCodes + group * 4);
  }

  /// Its 8 pairs, as elements of X.
  template <class X>
  __device__ void expand(std::uint32_t (&pairs)[8]) const {
    if constexpr (kType == DType::q8) {
      const std::uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
      for (int i = 0; i < 8; ++i) pairs[i] = byte_codes<X>(word[i / 2], i % 2 == 1);
    } else {
      const std::uint32_t word[2] = {words.x, words.y};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t two = __byte_perm(word[i / 2], 0, i % 2 == 1 ? 0x4342 : 0x4140);
        pairs[i] = small_codes<X>(two);
        pairs[4 + i] = small_codes<X>(two >> 4U);
      }
    }
  }
};

/// Products of 16 kTiles rows of weights and 8 kColumns rows of the input, over some of the
/// columns.
template <DType kType, class X, int kTiles, int kColumns>
struct TensorProduct {
  const std::byte* row[kTiles][2];  // of weights: g and g + 8 of every tile
  const X* in[kColumns];            // rows g of every 8
  std::int64_t columns;
  unsigned t;
  float sum[kTiles][kColumns][4];  // fragments c
  TensorCodes<kType> next[kTensorGroups][kTiles][2];

  __device__ void load(std::int64_t part, int group) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        next[group][tile][half].load(row[tile][half], columns, part * kTensorGroups + group, t);
      }
    }
  }

  /// Adds group `group` of `part`, and asks for the same one of `part_after`.
  __device__ void add(std::int64_t part, std::int64_t part_after, int group) {
    std::uint32_t codes[kTiles][2][8];
    float2 scale[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        next[group][tile][half].template expand<X>(codes[tile][half]);
        scale[tile][half] = widen_word<__half>(next[group][tile][half].scale);
      }
    }
    load(part_after, group);
    const std::int64_t first = (part * kTensorGroups + group) * kQuantGroup;
    constexpr unsigned kFirst = kType == DType::q8 ? 16 : 8;
    constexpr unsigned kSecond = kType == DType::q8 ? 8 : 32;
    constexpr std::uint32_t kOne = std::is_same_v<X, __half> ? 0x3C003C00U : 0x3F803F80U;
    constexpr std::uint32_t kOnes[4] = {kOne, kOne, kOne, kOne};
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const X* const x = in[n] + first + t * kFirst;
      const auto low = load_aligned<uint4>(x);
      const auto high = load_aligned<uint4>(x + kSecond);
      const std::uint32_t pairs[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      float total[4] = {};  // sum(x), the same in every row
      float dot[kTiles][4] = {};
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        mma_16x8x16<X>(total, kOnes, pairs[2 * step], pairs[2 * step + 1]);
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const std::uint32_t a[4] = {codes[tile][0][2 * step], codes[tile][1][2 * step],
                                      codes[tile][0][2 * step + 1], codes[tile][1][2 * step + 1]};
          mma_16x8x16<X>(dot[tile], a, pairs[2 * step], pairs[2 * step + 1]);
        }
      }
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 of_row = scale[tile][i / 2];
          sum[tile][n][i] += of_row.x * dot[tile][i] + of_row.y * total[i];
        }
      }
    }
  }
};

/// Sums of 4 warps, [8 kColumns][16 kTiles], with rows of some more words: fewer bank conflicts.
template <int kTiles, int kColumns>
struct TensorSums {
  static constexpr int kStride = 16 * kTiles + 4;
  float of_warp[kTensorWarps / 2][8 * kColumns * kStride];

  /// Calls body(its word, its place in a fragment's registers) for each that the lane has.
  template <class Body>
  __device__ void each(unsigned warp, const Body& body) {
    const unsigned g = threadIdx.x % 32 / 4;
    const unsigned t = threadIdx.x % 4;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const unsigned column = n * 8 + 2 * t + i % 2;
          body(of_warp[warp][column * kStride + tile * 16 + i / 2 * 8 + g], tile, n, i);
        }
      }
    }
  }
};

/// out[m, n] = end(in[m, :] . weight[n, :]) for m < rows, n < weight_rows. columns: a multiple of
/// 256; rows of in and weight are 16-byte aligned. A block has 16 kTiles rows of weights and 8
/// kColumns of the input; blocks that have the same weights are neighbours, so that all but one
/// find them in cache.
template <DType kType, class X, int kTiles, int kColumns>
__global__ void __launch_bounds__(kTensorWarps * 32)
    tensor_product_kernel(ProductMatrix out, const X* in, const std::byte* weight, int rows,
                          std::int64_t columns, std::int64_t weight_rows, unsigned pieces,
                          ProductEnd end) {
  if constexpr (kTensorCores) {
    constexpr int kRows = 16 * kTiles;
    __shared__ TensorSums<kTiles, kColumns> sums;
    const auto warp = threadIdx.x / 32;
    const unsigned g = threadIdx.x % 32 / 4;
    const std::int64_t first = std::int64_t{blockIdx.x / pieces} * kRows;
    const int first_in = static_cast<int>(blockIdx.x % pieces) * 8 * kColumns;
    TensorProduct<kType, X, kTiles, kColumns> work;
    work.columns = columns;
    work.t = threadIdx.x % 4;
    // The last row stands for those that are not there; their results are not stored.
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      const std::int64_t row = first + i * 8 + g;
      work.row[i / 2][i % 2] =
          weight + (row < weight_rows ? row : weight_rows - 1) * row_bytes<kType>(columns);
    }
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const int row = first_in + n * 8 + static_cast<int>(g);
      work.in[n] = in + (row < rows ? row : rows - 1) * columns;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (float& sum : work.sum[tile][n]) sum = 0;
      }
    }
    const std::int64_t parts = columns / kTensorPart;
    if (warp < parts) {
#pragma unroll
      for (int group = 0; group < kTensorGroups; ++group) work.load(warp, group);
    }
#pragma unroll 1
    for (std::int64_t part = warp; part < parts; part += kTensorWarps) {
      const std::int64_t after = part + kTensorWarps < parts ? part + kTensorWarps : part;
#pragma unroll
      for (int group = 0; group < kTensorGroups; ++group) work.add(part, after, group);
    }
    constexpr unsigned kHalf = kTensorWarps / 2;
    if (warp >= kHalf) {
      sums.each(warp - kHalf,
                [&](float& word, int tile, int n, int i) { word = work.sum[tile][n][i]; });
    }
    __syncthreads();
    if (warp < kHalf) {
      sums.each(warp, [&](float& word, int tile, int n, int i) { word += work.sum[tile][n][i]; });
    }
    __syncthreads();
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kRows * 8 * kColumns; i += kTensorWarps * 32) {
      const int m = first_in + i / kRows;
      const std::int64_t n = first + i % kRows;
      if (m >= rows || n >= weight_rows) continue;
      float total = 0;
#pragma unroll
      for (unsigned w = 0; w < kHalf; ++w) {
        total += sums.of_warp[w][i / kRows * sums.kStride + i % kRows];
      }
      out.store(m, n, end(m, n, total));
    }
  }
}

}  // namespace sluice::cuda
