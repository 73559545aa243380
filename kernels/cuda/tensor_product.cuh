// Products of some rows of 16-bit activations with q8 or q4 weights on tensor cores: codes become
// 16-bit integers in registers, which are exact, and of one group of 64 weights, with one scale and
// one minimum,
//   dot = scale * sum(code * x) + minimum * sum(x),
// both sums by tensor cores, in f32.
//
// A block has 128 rows of weights, all rows of the input, and all columns or some parts of 256.
// Four warps have 32 rows of weights each and the first half of every part, four the second half:
// first one group of 64 of each half, a slab, then the other one. Weights are read once, each by
// one lane, a slab or two ahead. Inputs come to shared memory while slabs before are computed. Each
// sum(x) is computed by one warp and used by four, behind the next barrier. The order of a result's
// sums does not depend on how many rows the input has.
//
// Bound by memory for few rows; from some 32 rows of q4 on by the instructions that expand,
// multiply and scale, beyond that by the tensor cores.
//
// Which element is which k of a fragment (tensor_core.cuh) is free, if it is the same one in
// weights and inputs. A lane (g = lane / 4, t = lane % 4) has 16 elements of a group of rows g and
// g + 8 of the weights, and the same ones of row g of the input, as two chunks of 8:
//   q4: t * 8.. and 32 + t * 8.., the low and the high halves of 8 bytes;  q8: t * 16.., 16 bytes.
// Chunks are 4 pairs, and two pairs of a lane go into each of 4 steps.
#pragma once

#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/product_plan.h"
#include "kernels/cuda/tensor_core.cuh"

namespace sluice::cuda {

constexpr int kTensorRowWarps = 4;  // of a block, for each group of a slab
constexpr int kTensorThreads = 2 * kTensorRowWarps * 32;
constexpr int kTensorTiles = 2;  // of 16 rows of weights, of a warp
static_assert(kTensorBlock == kTensorRowWarps * kTensorTiles * 16);
constexpr int kTensorSlabs = 2;  // of a part: its groups 0 and 2, then 1 and 3

/// Codes become elements of X by their bits alone, as code + kTensorBias; what is too much is taken
/// from the minimum. (The last bit of 1024 counts 1, as that of 128 in bf16; that of 64 a 16th.)
/// The two then cancel in f32, which with inputs of one sign costs some 5e-5 of the results' size:
/// a tenth of what rounding them to f16 does.
template <DType kType, class X>
constexpr float kTensorBias = std::is_same_v<X, __half> ? (kType == DType::q8 ? 1024.0F : 64.0F)
                                                        : (kType == DType::q8 ? -128.0F : 128.0F);

/// A lane's codes of a group of one row of weights.
template <DType kType>
using TensorCodes = std::conditional_t<kType == DType::q8, uint4, uint2>;

/// Bytes 0 and 1 of `word`, or 2 and 3, of q8.
template <class X>
__device__ inline std::uint32_t byte_codes(std::uint32_t word, bool high) {
  const unsigned which = high ? 0x4342 : 0x4140;
  if constexpr (std::is_same_v<X, __half>) {
    return __byte_perm(word, 0x64646464U, which);
  } else {
    // bf16 has seven bits: 128 + those of the code, less 128, or 256 where the code's eighth is 0.
    const std::uint32_t codes = __byte_perm(word ^ 0x80808080U, 0, which);
    const std::uint32_t low = and_or(codes, 0x007F007FU, 0x43004300U);
    const std::uint32_t less = and_or(codes, 0x00800080U, 0x43004300U);
    __nv_bfloat162 pair;
    __nv_bfloat162 base;
    memcpy(static_cast<void*>(&pair), &low, sizeof(low));
    memcpy(static_cast<void*>(&base), &less, sizeof(less));
    pair = __hsub2(pair, base);
    std::uint32_t result = 0;
    memcpy(&result, &pair, sizeof(result));
    return result;
  }
}

/// The low four bits of the low bytes of both halves of `word`, or the high four, of q4.
template <class X>
__device__ inline std::uint32_t nibble_codes(std::uint32_t word, bool high) {
  if constexpr (std::is_same_v<X, __half>) {
    return and_or(high ? word : word << 4U, 0x00F000F0U, 0x54005400U);
  } else {
    return and_or(high ? word >> 4U : word, 0x000F000FU, 0x43004300U);
  }
}

/// A lane's 8 pairs.
template <class X>
__device__ inline void expand_codes(uint4 codes, std::uint32_t (&pairs)[8]) {
  const std::uint32_t word[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) pairs[i] = byte_codes<X>(word[i / 2], i % 2 == 1);
}
template <class X>
__device__ inline void expand_codes(uint2 codes, std::uint32_t (&pairs)[8]) {
  const std::uint32_t word[2] = {codes.x, codes.y};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t two = __byte_perm(word[i / 2], 0, i % 2 == 1 ? 0x4342 : 0x4140);
    pairs[i] = nibble_codes<X>(two, false);
    pairs[4 + i] = nibble_codes<X>(two, true);
  }
}

/// Slabs of the input on their way and, behind them, the block's sums.
template <int kColumns>
struct TensorShared {
  static constexpr int kStages = kColumns > 4 ? 2 : 4;
  static constexpr int kChunks = kTensorPart / kTensorSlabs / kChunk;
  static constexpr int kStride = kTensorBlock + 4;  // of sums: no bank conflicts
  union {
    uint4 in[kStages][8 * kColumns][kChunks];
    float sums[8 * kColumns * kStride];
  };
  float total[kTensorSlabs][2][8 * kColumns];  // sum(x) of a slab's groups, and rows

  __device__ static unsigned stage(unsigned part, int slab) {
    return part % (kStages / kTensorSlabs) * kTensorSlabs + slab;
  }
  /// Calls body(its word, its place in a fragment's registers) for each that the lane has.
  template <class Body>
  __device__ void each_sum(const Body& body) {
    const unsigned first = threadIdx.x / 32 % kTensorRowWarps * kTensorTiles * 16;
    const unsigned g = threadIdx.x % 32 / 4;
    const unsigned t = threadIdx.x % 4;
#pragma unroll
    for (int tile = 0; tile < kTensorTiles; ++tile) {
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const unsigned column = n * 8 + 2 * t + i % 2;
          body(sums[column * kStride + first + tile * 16 + i / 2 * 8 + g], tile, n, i);
        }
      }
    }
  }
};

/// Where chunk `chunk` of row `row` of a slab lies. Those of odd rows are exchanged: four lanes of
/// row g and four of g + 1, which are served together, then find all banks.
template <DType kType>
__device__ inline int slab_chunk(int row, int chunk) {
  return chunk ^ (row & 1) * (kType == DType::q8 ? 1 : 4);
}
/// The first of the two chunks of a half that lane t of four reads, and how far the second one is.
template <DType kType>
__device__ inline int lane_chunk(int t) {
  return kType == DType::q8 ? 2 * t : t;
}
template <DType kType>
constexpr int kSecondChunk = kType == DType::q8 ? 1 : 4;

/// A warp's products of 32 rows of weights and 8 kColumns of the input, in one half of every part.
template <DType kType, class X, int kColumns>
struct TensorProduct {
  using Shared = TensorShared<kColumns>;
  static constexpr int kCodeBytes = kType == DType::q8 ? 64 : 32;  // of a group
  /// Slabs of codes on their way: where they are large or take long, one is enough.
  static constexpr int kAhead = kType == DType::q8 || kColumns > 4 ? 1 : 2;

  Shared* shared;
  const X* in;  // the thread's first chunk of the first slab
  int rows;     // of the input, from that chunk's on
  std::int64_t columns;
  unsigned end;                          // of the parts
  const std::byte* weight;               // the block's first row
  unsigned row[kTensorTiles][2];         // bytes from there to the lane's codes of rows g, g + 8,
  unsigned behind;                       // and from those to its scales
  int warp;                              // of those with its half
  int half;                              // of the part
  float sum[kTensorTiles][kColumns][4];  // fragments c
  float minimum[kTensorTiles][2];        // of the slab before
  TensorCodes<kType> codes[kAhead][kTensorTiles][2];  // that come next
  uint2 scales[kTensorTiles][2];                      // and minima, of both slabs

  __device__ static int g() { return static_cast<int>(threadIdx.x) % 32 / 4; }
  __device__ static int t() { return static_cast<int>(threadIdx.x) % 4; }

  /// Where the block's work begins. The last row of weights stands for those that are not there;
  /// their results are not stored.
  __device__ void begin(const X* from, const std::byte* weights, std::int64_t first_row,
                        std::int64_t weight_rows) {
    constexpr int kChunks = Shared::kChunks;
    const int m = static_cast<int>(threadIdx.x) / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    in = from + m * columns + (chunk < kChunks / 2 ? chunk : chunk + kChunks / 2) * kChunk;
    rows -= m;
    const std::int64_t bytes = row_bytes<kType>(columns);
    const auto there = static_cast<int>(min(weight_rows - first_row, std::int64_t{kTensorBlock}));
    weight = weights + first_row * bytes;
    const int before = half * (2 * kCodeBytes) + t() * (kCodeBytes / 4);
#pragma unroll
    for (int i = 0; i < 2 * kTensorTiles; ++i) {
      const int of_lane = min(warp * (kTensorTiles * 16) + i * 8 + g(), there - 1);
      row[i / 2][i % 2] = static_cast<unsigned>(of_lane * bytes + before);
      minimum[i / 2][i % 2] = 0;
    }
    behind = static_cast<unsigned>(columns / kQuantGroup * kCodeBytes + half * 8 - before);
#pragma unroll
    for (auto& of_tile : sum) {
#pragma unroll
      for (auto& fragment : of_tile) {
#pragma unroll
        for (float& value : fragment) value = 0;
      }
    }
  }

  __device__ void load_codes(unsigned part, int slab) {
#pragma unroll
    for (int tile = 0; tile < kTensorTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        codes[slab % kAhead][tile][i] = load_aligned<TensorCodes<kType>>(
            weight + (row[tile][i] + part * (4 * kCodeBytes)) + slab * kCodeBytes);
      }
    }
  }
  __device__ void load_scales(unsigned part) {
#pragma unroll
    for (int tile = 0; tile < kTensorTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scales[tile][i] = load_aligned<uint2>(weight + (row[tile][i] + behind + part * 16));
      }
    }
  }

  /// Asks for the inputs of a slab, zeros for rows that are not there; of none where there is none,
  /// but a group of copies.
  __device__ void bring(unsigned part, int slab) {
    constexpr int kChunks = Shared::kChunks;
    constexpr int kAll = 8 * kColumns * kChunks;
    constexpr int kStep = kTensorThreads / kChunks;
    if (part < end && (kAll >= kTensorThreads || threadIdx.x < kAll)) {
      const int m = static_cast<int>(threadIdx.x) / kChunks;
      const int chunk = static_cast<int>(threadIdx.x) % kChunks;
      uint4* const to = &shared->in[Shared::stage(part, slab)][m][slab_chunk<kType>(m, chunk)];
      const X* const from = in + part * kTensorPart + slab * kQuantGroup;
#pragma unroll
      for (int i = 0; i * kTensorThreads < kAll; ++i) {
        copy_async_16(to + i * kTensorThreads, from + i * kStep * columns, i * kStep < rows);
      }
    }
    commit_copies();
  }

  /// The lane's pairs of row 8 n + g of a slab.
  __device__ void read(const uint4 (&of_slab)[8 * kColumns][Shared::kChunks], int n,
                       std::uint32_t (&pairs)[8]) const {
    const int first = half * 8 + lane_chunk<kType>(t());
    const auto& of_row = of_slab[n * 8 + g()];
    const auto low = load_aligned<uint4>(&of_row[slab_chunk<kType>(g(), first)]);
    const auto high =
        load_aligned<uint4>(&of_row[slab_chunk<kType>(g(), first + kSecondChunk<kType>)]);
    pairs[0] = low.x, pairs[1] = low.y, pairs[2] = low.z, pairs[3] = low.w;
    pairs[4] = high.x, pairs[5] = high.y, pairs[6] = high.z, pairs[7] = high.w;
  }

  /// Puts the warp's part of sum(x) of a slab that is there where all find it, adds the slab's
  /// products but for minimum * sum(x), and asks for the next weights.
  __device__ void add(unsigned part, int slab) {
    const auto& of_slab = shared->in[Shared::stage(part, slab)];
    put_totals(of_slab, slab);
    std::uint32_t a[kTensorTiles][2][8];
    float scale[kTensorTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTensorTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        expand_codes<X>(codes[slab % kAhead][tile][i], a[tile][i]);
        const float2 packed = widen_word<__half>(slab == 0 ? scales[tile][i].x : scales[tile][i].y);
        scale[tile][i] = packed.x;
        minimum[tile][i] = packed.y - kTensorBias<kType, X> * packed.x;
      }
    }
    const unsigned next = part + (slab + kAhead) / kTensorSlabs;
    if (next < end) load_codes(next, (slab + kAhead) % kTensorSlabs);
    if (slab == kTensorSlabs - 1 && part + 1 < end) load_scales(part + 1);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      std::uint32_t b[8];
      read(of_slab, n, b);
      float dot[kTensorTiles][4] = {};
#pragma unroll
      for (int step = 0; step < 8; step += 2) {
#pragma unroll
        for (int tile = 0; tile < kTensorTiles; ++tile) {
          const std::uint32_t of_tile[4] = {a[tile][0][step], a[tile][1][step],
                                            a[tile][0][step + 1], a[tile][1][step + 1]};
          mma_16x8x16<X>(dot[tile], of_tile, b[step], b[step + 1]);
        }
      }
#pragma unroll
      for (int tile = 0; tile < kTensorTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[tile][n][i] += scale[tile][i / 2] * dot[tile][i];
      }
    }
  }

  /// sum(x) of every fourth 8 rows.
  __device__ void put_totals(const uint4 (&of_slab)[8 * kColumns][Shared::kChunks], int slab) {
    constexpr std::uint32_t kOne = std::is_same_v<X, __half> ? 0x3C003C00U : 0x3F803F80U;
    constexpr std::uint32_t kOnes[4] = {kOne, kOne, kOne, kOne};
#pragma unroll
    for (int i = 0; i < kColumns; i += kTensorRowWarps) {
      const int n = kColumns < kTensorRowWarps ? warp % kColumns : warp + i;
      std::uint32_t b[8];
      read(of_slab, n, b);
      float total[4] = {};  // the same in every row
#pragma unroll
      for (int step = 0; step < 8; step += 2) {
        mma_16x8x16<X>(total, kOnes, b[step], b[step + 1]);
      }
      if (g() == 0 && (kColumns >= kTensorRowWarps || warp < kColumns)) {
        store_aligned(&shared->total[slab][half][n * 8 + 2 * t()], float2{total[0], total[1]});
      }
    }
  }

  /// The rest of the slab before, behind a barrier.
  __device__ void add_minimum(int slab) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const auto total = load_aligned<float2>(&shared->total[slab][half][n * 8 + 2 * t()]);
#pragma unroll
      for (int tile = 0; tile < kTensorTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[tile][n][i] += minimum[tile][i / 2] * (i % 2 == 0 ? total.x : total.y);
        }
      }
    }
  }

  /// All parts from `first` on. Sums and minima are zero.
  __device__ void run(unsigned first) {
    constexpr int kStages = Shared::kStages;
    load_scales(first);
#pragma unroll
    for (int slab = 0; slab < kAhead; ++slab) load_codes(first, slab);
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) bring(first + i / kTensorSlabs, i % kTensorSlabs);
    // Before the first slab there was none.
    for (int i = static_cast<int>(threadIdx.x); i < 16 * kColumns; i += kTensorThreads) {
      shared->total[kTensorSlabs - 1][i / (8 * kColumns)][i % (8 * kColumns)] = 0;
    }
#pragma unroll 1
    for (unsigned part = first; part < end; ++part) {
#pragma unroll
      for (int slab = 0; slab < kTensorSlabs; ++slab) {
        wait_copies<kStages - 2>();
        __syncthreads();  // inputs of the slab are there; the slab before was read, its sums too
        bring(part + (slab + kStages - 1) / kTensorSlabs, (slab + kStages - 1) % kTensorSlabs);
        add_minimum(1 - slab);
        add(part, slab);
      }
    }
    __syncthreads();
    add_minimum(kTensorSlabs - 1);
  }
};

/// Where the sums of a block go, if others have the rest of the columns: to [splits, rows,
/// weight_rows], f32.
struct TensorSplits {
  float* parts;
  unsigned count;  // 1: none have
};

/// out[m, n] = end(in[m, :] . weight[n, :]) for m < rows <= 8 kColumns, n < weight_rows. columns: a
/// multiple of 256; rows of in and weight are 16-byte aligned. Grid: blocks of 128 rows of weights
/// x splits of the columns.
template <DType kType, class X, int kColumns>
__global__ void __launch_bounds__(kTensorThreads, kColumns > 4 ? 1 : 2)
    tensor_product_kernel(ProductMatrix out, const X* in, const std::byte* weight, int rows,
                          std::int64_t columns, std::int64_t weight_rows, TensorSplits splits,
                          ProductEnd end) {
  if constexpr (kTensorCores) {
    __shared__ TensorShared<kColumns> shared;
    const unsigned split = blockIdx.x % splits.count;
    const std::int64_t first_row = std::int64_t{blockIdx.x / splits.count} * kTensorBlock;
    const auto parts = static_cast<unsigned>(columns / kTensorPart);
    TensorProduct<kType, X, kColumns> work;
    work.shared = &shared;
    work.rows = rows;
    work.columns = columns;
    work.end = parts * (split + 1) / splits.count;
    work.warp = static_cast<int>(threadIdx.x) / 32 % kTensorRowWarps;
    work.half = static_cast<int>(threadIdx.x) / 32 / kTensorRowWarps;
    work.begin(in, weight, first_row, weight_rows);
    work.run(parts * split / splits.count);
    // Sums of the groups' warps are added where the inputs were, which are read.
    if (work.half == 1) {
      shared.each_sum([&](float& word, int tile, int n, int i) { word = work.sum[tile][n][i]; });
    }
    __syncthreads();
    if (work.half == 0) {
      shared.each_sum([&](float& word, int tile, int n, int i) { word += work.sum[tile][n][i]; });
    }
    __syncthreads();
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * kTensorBlock; i += kTensorThreads) {
      const int m = i / kTensorBlock;
      const std::int64_t n = first_row + i % kTensorBlock;
      if (n >= weight_rows) continue;
      const float sum = shared.sums[m * shared.kStride + i % kTensorBlock];
      if (splits.count == 1) {
        out.store(m, n, end(m, n, sum));
      } else {
        splits.parts[(std::int64_t{split} * rows + m) * weight_rows + n] = sum;
      }
    }
  }
}

/// out[r, c] = end(sum of the splits' [r, c], in order). On RowGrid. in_chunks: rows of all can be
/// read and written so.
static __global__ void merge_splits_kernel(ProductMatrix out, TensorSplits splits,
                                           std::int64_t columns, ProductEnd end, bool in_chunks) {
  const std::int64_t column = chunk_column();
  if (column >= columns) return;
  const std::int64_t row = blockIdx.x;
  const float* const from = splits.parts + row * columns;
  const std::int64_t stride = gridDim.x * columns;
  if (in_chunks) {
    float sums[kChunk] = {};
#pragma unroll 4
    for (unsigned split = 0; split < splits.count; ++split) {
      float part[kChunk];
      read_chunk(from + split * stride + column, part);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sums[i] += part[i];
    }
    end(row, column, sums);
    write_chunk_of(out.dtype, sums, out.data, row * out.stride + column);
    return;
  }
#pragma unroll 1
  for (std::int64_t c = column; c < columns && c < column + kChunk; ++c) {
    float sum = 0;
#pragma unroll 1
    for (unsigned split = 0; split < splits.count; ++split) sum += from[split * stride + c];
    out.store(row, c, end(row, c, sum));
  }
}

}  // namespace sluice::cuda
