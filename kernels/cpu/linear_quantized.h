// in W^T from quantised rows of W (kernels/group_quantize.h), as products of integers.
//
// Inputs are quantised, too: per row and group of 64 of K to signed 8 bits, scale = largest / 127
// (llama.cpp's Q8_0, over our groups). A result is then, over the groups g in order,
//   sum = fma(dot of the codes, w_scale[g] * x_scale[g], sum)
//   sum = fma(w_minimum[g], x_sum[g], sum)        x_sum = x_scale * sum of x's codes
// where the dot is an exact integer. So it depends on its own two rows alone, and every product
// below yields the same bits wherever its multiply-adds are fused (all but SSE4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/context.h"
#include "kernels/device/dtype.h"

namespace sluice::kernels {

struct LinearCall;

/// Rows of the input that lie together, and of W that are multiplied with them.
constexpr std::int64_t kQuantTile = 16;

/// One group of kQuantTile input rows. Codes are [16 rows][64], or interleaved, as tile products
/// read them: [64 / 4][16 rows][4]. Of rows beyond the last, scales and sums are 0 and the codes
/// anything.
struct alignas(64) PackedGroup {
  std::int8_t codes[kQuantTile * kQuantGroup];
  float scale[kQuantTile];
  float sum[kQuantTile];
};

/// What a thread does without asking any other: sums[r][c] = x[r] . w[c].
struct QuantizedChunk {
  static constexpr std::int64_t kColumns = 64;
  static constexpr std::int64_t kTiles = 16;

  const PackedGroup* in = nullptr;  // [tiles, groups]
  std::int64_t tiles = 0;           // <= kTiles
  std::int64_t rows = 0;            // of the input: tiles full but for the last
  std::int64_t groups = 0;
  bool interleaved = false;      // the codes of `in`
  const std::byte* w = nullptr;  // [columns] rows of w_dtype
  DType w_dtype = DType::q8;
  std::int64_t columns = 0;           // <= kColumns
  const std::byte* w_next = nullptr;  // what this thread may want next, or null
};

/// Of scratch, for every product.
constexpr std::int64_t kProductScratchFloats = 16 * 1024;

/// A way to multiply. `sums` is [rows][QuantizedChunk::kColumns], 64-byte aligned; what lies beyond
/// `columns` is anything. `scratch`: [kProductScratchFloats], 64-byte aligned.
struct QuantizedProduct {
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  std::int64_t interleaves_from;  // rows of the input; with fewer, codes are [16 rows][64]
  void (*sum)(const QuantizedChunk& chunk, float* sums, float* scratch);
};

/// Vectors of the instruction set that dispatch chose.
QuantizedProduct portable_product();
/// Pairs of bytes (AVX2). Only where avx2_available().
QuantizedProduct pair_product();
/// Vectors of bytes (AVX-512 VNNI). Only where vnni_available().
QuantizedProduct byte_product();
/// Tiles (AMX). Only where amx_available().
QuantizedProduct tile_product();
/// The fastest that this machine has.
QuantizedProduct best_product();

/// linear() for weights of q8 or q4. Throws DeviceError where a row is too long to be packed.
void linear_quantized(const CpuContext& context, const LinearCall& call,
                      const QuantizedProduct& product);

}  // namespace sluice::kernels
