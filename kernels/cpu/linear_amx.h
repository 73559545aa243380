// Products of float32 exactness out of tiles of bfloat16 (AMX): the heart of linear() where the
// processor has them.
//
// A number is the sum of its parts: bf16 values that take the leading bits, the next and the last.
// An input (f32) has three, a weight one (bf16), two (f16) or three (f32), all exact but for
// magnitudes at the ends of float's range. The tile unit multiplies parts exactly and sums in f32.
// Part p of a weight meets parts 0 ... 2 - p of the input; what is left out is 2^-24 of the product
// and below. An infinity has no parts: it becomes NaN.
//
// The law of kernels/ops.h: every sum is made by the same tile products over the same blocks of K,
// whatever the number of rows; columns and rows of a tile do not mix.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device/dtype.h"

namespace sluice::kernels {

constexpr std::int64_t kTileWidth = 16;   // rows of W and rows of the input in a tile product
constexpr std::int64_t kTileDepth = 32;   // elements of K in it
constexpr std::int64_t kTileBlock = 256;  // elements of K that the tile unit sums; part of the bits
constexpr std::int64_t kTileColumns = 32;  // rows of W that pass through together
constexpr int kInputParts = 3;
/// The most a chunk may have.
constexpr std::int64_t kTileChunkRows = 256;
constexpr std::int64_t kTileChunkColumns = 256;

/// Input rows as the tile unit reads them, 16 by 16: [blocks of K][tiles of rows][steps of
/// kTileDepth][parts][16][width][2] of bf16, where dword i of a step holds its elements i and
/// i + 16. `width` is 16, or the number of rows where it is less. K and rows are padded with zeros.
/// Plain data: code of this header would be compiled for AMX, too, and the linker might take that.
struct PackedRows {
  std::byte* data = nullptr;  // 64-byte aligned
  std::int64_t rows = 0;
  std::int64_t k = 0;
  std::int64_t tiles = 0;
  std::int64_t width = 0;
  std::int64_t part_bytes = 0;   // of a part of a step
  std::int64_t tile_bytes = 0;   // of a tile of rows in a block of K
  std::int64_t block_bytes = 0;  // of all tiles in a block of K
};

/// Packs one tile of rows in one block of K. in: f32 [rows, k], all rows.
void pack_tile(const float* in, const PackedRows& packed, std::int64_t tile, std::int64_t block);

/// Up to kTileChunkColumns rows of W with up to kTileChunkRows packed rows.
struct TileChunk {
  PackedRows in;
  std::int64_t first_tile = 0;
  std::int64_t tiles = 0;
  const std::byte* w = nullptr;  // [columns, in.k] of w_dtype: f32, f16 or bf16
  DType w_dtype = DType::f32;
  std::int64_t columns = 0;
  const std::byte* next_w = nullptr;  // what this thread may read next (a hint), or null
};

/// Floats of scratch that a chunk needs.
constexpr std::int64_t kTileScratchFloats = kTileChunkRows * kTileChunkColumns +
                                            kTileColumns * kTileBlock * kInputParts / 2 +
                                            2 * kTileWidth * kTileColumns;

/// Leaves the sums in `scratch` (64-byte aligned, kTileScratchFloats), for read_sums(). Uses the
/// tile registers of the calling thread and leaves them empty.
void multiply_tiles(const TileChunk& chunk, float* scratch);

/// out: [16, kTileColumns], the sums of row tile first_tile + `tile` with the rows of W from
/// `column`, a multiple of kTileColumns. What lies beyond the chunk's rows and columns is
/// arbitrary.
void read_sums(const TileChunk& chunk, const float* scratch, std::int64_t tile, std::int64_t column,
               float* out);

}  // namespace sluice::kernels
