// linear() by tile products: the input is packed once per call, in rounds of as many rows as have
// room; then chunks of W pass by all of it. Within a chunk K goes in blocks, so that the block's
// part of the input stays in L2 while the chunk's weights pass by.
//
// Cost: 2 M N K flop, each as 3 (bf16), 5 (f16) or 6 (f32) of the tile unit; reads N K weights per
// kTileChunkRows rows of the input.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_tiles.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/linear_amx.h"
#include "kernels/cpu/linear_chunk.h"
#include "kernels/cpu/linear_end-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

void finish_tile(const LinearEnd& end, std::int64_t rows, std::int64_t columns, const float* sums) {
  float bias[kTileColumns + kLanes];
  finish_rows(end, rows, columns, sums, kTileColumns, widened_bias(end, columns, bias));
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/linear_tiles.h"

namespace sluice::kernels {

HWY_EXPORT(finish_tile);

namespace {

static_assert(kTileScratchFloats <= kScratchFloats);

std::int64_t blocks_of(std::int64_t k) { return (k + kTileBlock - 1) / kTileBlock; }

/// How a round is cut. Rows are cut evenly, and each part of W by itself, so that a chunk lies in
/// one part.
struct Cut {
  std::int64_t row_chunks = 0;
  std::int64_t tiles = 0;  // per chunk
  std::int64_t columns = kTileChunkColumns;
  std::int64_t resident_chunks = 0;
  std::int64_t column_chunks = 0;
};

Cut cut_tiles(const PackedRows& packed, const SplitMatrix& weight, int threads) {
  constexpr std::int64_t kMostTiles = kTileChunkRows / kTileWidth;
  constexpr std::int64_t kStaysInCache = 1 << 20;
  const std::int64_t tiles = packed.tiles;
  Cut cut;
  // Few rows are bound by memory: then few rows of W at a time, each from end to end, as hardware
  // prefetchers like them; unless the input would have to come from beyond L2 again for each.
  if (tiles <= 2 && blocks_of(packed.k) * packed.block_bytes <= kStaysInCache) {
    cut.columns = kTileColumns;
  }
  cut.row_chunks = (tiles + kMostTiles - 1) / kMostTiles;
  const std::int64_t even = (tiles + cut.row_chunks - 1) / cut.row_chunks;
  cut.tiles = even > 1 ? (even + 1) / 2 * 2 : 1;
  cut.row_chunks = (tiles + cut.tiles - 1) / cut.tiles;
  // Enough pieces for the threads to end together. Few rows are bound by memory, which threads
  // share unevenly.
  const std::int64_t pieces = (tiles > 2 ? 4 : 8) * threads;
  while (cut.columns > kTileColumns && weight.rows() * cut.row_chunks < pieces * cut.columns) {
    cut.columns /= 2;
  }
  cut.resident_chunks = (weight.resident.rows + cut.columns - 1) / cut.columns;
  cut.column_chunks = cut.resident_chunks + (weight.streamed.rows + cut.columns - 1) / cut.columns;
  return cut;
}

/// Some rows of the input, packed.
class Round {
 public:
  Round(const LinearCall& call, const PackedRows& packed, std::int64_t first_row, int threads)
      : call_(call),
        packed_(packed),
        first_row_(first_row),
        threads_(threads),
        cut_(cut_tiles(packed, call.weight, threads)) {}

  std::int64_t chunks() const { return cut_.row_chunks * cut_.column_chunks; }

  void run(std::int64_t index, float* scratch) const {
    const Place place = place_of(index % cut_.column_chunks);
    TileChunk chunk;
    chunk.in = packed_;
    chunk.first_tile = index / cut_.column_chunks * cut_.tiles;
    chunk.tiles = std::min(cut_.tiles, packed_.tiles - chunk.first_tile);
    chunk.w = place.part->row(place.row);
    chunk.w_dtype = place.part->dtype;
    chunk.columns = std::min(cut_.columns, place.part->rows - place.row);
    // Threads take chunks in turn, so this is probably the next chunk of this thread.
    const std::int64_t next = index % cut_.column_chunks + threads_;
    if (next < cut_.column_chunks) {
      const Place then = place_of(next);
      chunk.next_w = then.part->row(then.row);
    }
    multiply_tiles(chunk, scratch);
    finish(chunk, place.column, scratch);
  }

 private:
  struct Place {
    const TensorView* part;
    std::int64_t row;     // of the part
    std::int64_t column;  // of the result
  };

  Place place_of(std::int64_t column_chunk) const {
    const SplitMatrix& weight = call_.weight;
    const bool resident = column_chunk < cut_.resident_chunks;
    const std::int64_t row =
        (resident ? column_chunk : column_chunk - cut_.resident_chunks) * cut_.columns;
    return {resident ? &weight.resident : &weight.streamed, row,
            resident ? row : weight.resident.rows + row};
  }

  void finish(const TileChunk& chunk, std::int64_t first_column, const float* scratch) const {
    const auto finish = HWY_DYNAMIC_DISPATCH(finish_tile);
    alignas(64) float sums[kTileWidth * kTileColumns];
    for (std::int64_t tile = 0; tile < chunk.tiles; ++tile) {
      const std::int64_t row = (chunk.first_tile + tile) * kTileWidth;
      for (std::int64_t column = 0; column < chunk.columns; column += kTileColumns) {
        read_sums(chunk, scratch, tile, column, sums);
        finish(linear_end(call_, first_row_ + row, first_column + column),
               std::min(kTileWidth, packed_.rows - row),
               std::min(kTileColumns, chunk.columns - column), sums);
      }
    }
  }

  const LinearCall& call_;
  const PackedRows& packed_;
  std::int64_t first_row_;
  int threads_;
  Cut cut_;
};

PackedRows packed_rows(std::byte* data, std::int64_t rows, std::int64_t k) {
  PackedRows packed;
  packed.data = data;
  packed.rows = rows;
  packed.k = k;
  packed.tiles = (rows + kTileWidth - 1) / kTileWidth;
  packed.width = std::min(rows, kTileWidth);
  packed.part_bytes = packed.width * kTileDepth * 2;
  packed.tile_bytes = kTileBlock / kTileDepth * kInputParts * packed.part_bytes;
  packed.block_bytes = packed.tiles * packed.tile_bytes;
  return packed;
}

/// Bytes of 16 packed rows.
std::int64_t packed_tile_bytes(std::int64_t k) {
  return blocks_of(k) * packed_rows(nullptr, kTileWidth, k).block_bytes;
}

}  // namespace

bool tiles_can(std::int64_t k) { return amx_available() && packed_tile_bytes(k) <= kSharedBytes; }

void linear_tiles(const CpuContext& context, const LinearCall& call) {
  const TensorView& in = call.in;
  const std::int64_t most_rows = kSharedBytes / packed_tile_bytes(in.columns) * kTileWidth;
  for (std::int64_t row = 0; row < in.rows; row += most_rows) {
    const PackedRows packed =
        packed_rows(context.shared, std::min(most_rows, in.rows - row), in.columns);
    const auto* const from = reinterpret_cast<const float*>(in.row(row));
    constexpr std::int64_t kPackCost = 8;  // of an element, in multiply-adds of a thread
    context.for_each(packed.tiles * blocks_of(packed.k), packed.rows * packed.k * kPackCost,
                     [&](std::int64_t index, float*) {
                       pack_tile(from, packed, index % packed.tiles, index / packed.tiles);
                     });
    const Round round(call, packed, row, context.pool->threads());
    context.for_each(round.chunks(), packed.rows * packed.k * call.out.columns,
                     [&](std::int64_t index, float* scratch) { round.run(index, scratch); });
  }
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
