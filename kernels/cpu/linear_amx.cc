// Weights pass through in blocks of kTileColumns rows and kTileBlock elements: split into parts
// that stay in L2, then met by all rows of the input, two tiles by two, or four by one where there
// are no more rows. While a block is split and multiplied, the next is fetched: with few rows the
// product is bound by memory, and no hardware prefetcher follows 64 rows.
//
// This file is compiled for processors with AMX: nothing inline of the standard library here, the
// linker might give its code to others.
#include "kernels/cpu/linear_amx.h"

#include <immintrin.h>

#include "kernels/cpu/tile_registers.h"

namespace sluice::kernels {

namespace {

constexpr std::int64_t kLine = 64;
constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kTileFloats = kTileWidth * kTileWidth;

std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// --- numbers and their parts ----------------------------------------------------------------

/// 32 elements of a row of W or of the input: f32 0 ... 15 and 16 ... 31.
struct Floats {
  __m512 low;
  __m512 high;
};

/// The 8 leading bits, rounded; a NaN may become anything, its remainder stays NaN.
__m512 leading(__m512 value) {
  const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(value), _mm512_set1_epi32(0x8000));
  return _mm512_castsi512_ps(
      _mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U))));
}

/// bf16 pairs of the upper halves.
__m512i pack(__m512 low, __m512 high) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  const __m512i shifted = _mm512_srli_epi32(_mm512_castps_si512(low), 16);
  // shifted | (high & upper)
  return _mm512_ternarylogic_epi32(shifted, _mm512_castps_si512(high), upper, 0xF8);
}

/// Takes the first part off `value`.
__m512i take_part(Floats& value) {
  const __m512 low = leading(value.low);
  const __m512 high = leading(value.high);
  value.low = _mm512_sub_ps(value.low, low);
  value.high = _mm512_sub_ps(value.high, high);
  return pack(low, high);
}

Floats load_floats(const float* from, std::int64_t count) {
  if (count >= kTileDepth) return {_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)};
  const auto mask = static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1);
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from),
          _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 16)};
}

__m512i load_halves(const std::uint16_t* from, std::int64_t count) {
  if (count >= kTileDepth) return _mm512_loadu_si512(from);
  const auto mask = static_cast<__mmask32>((std::uint64_t{1} << count) - 1);
  return _mm512_maskz_loadu_epi16(mask, from);
}

/// Rows of W in the dtype of the checkpoint; split() writes the parts of 32 elements, of which
/// `count` are there, a tile apart.
struct FloatRows {
  using Element = float;
  static constexpr int kParts = 3;
  static void split(const float* from, std::int64_t count, std::byte* to) {
    Floats value = load_floats(from, count);
    _mm512_store_si512(to, take_part(value));
    _mm512_store_si512(to + kTileBytes, take_part(value));
    _mm512_store_si512(to + 2 * kTileBytes, pack(value.low, value.high));
  }
};

struct HalfRows {
  using Element = std::uint16_t;
  static constexpr int kParts = 2;
  static void split(const std::uint16_t* from, std::int64_t count, std::byte* to) {
    Floats value;
    if (count >= kTileDepth) {
      const auto* const halves = reinterpret_cast<const __m256i*>(from);
      value = {_mm512_cvtph_ps(_mm256_loadu_si256(halves)),
               _mm512_cvtph_ps(_mm256_loadu_si256(halves + 1))};
    } else {
      const __m512i halves = load_halves(from, count);
      value = {_mm512_cvtph_ps(_mm512_castsi512_si256(halves)),
               _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1))};
    }
    _mm512_store_si512(to, take_part(value));
    _mm512_store_si512(to + kTileBytes, pack(value.low, value.high));
  }
};

struct BrainRows {
  using Element = std::uint16_t;
  static constexpr int kParts = 1;
  static void split(const std::uint16_t* from, std::int64_t count, std::byte* to) {
    const __m512i halves = load_halves(from, count);
    const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves));
    const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(halves, 1));
    _mm512_store_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
};

// --- the input ------------------------------------------------------------------------------

/// rows[i][j] becomes rows[j][i].
void transpose(__m512i* rows) {
  __m512i pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  __m512i quads[16];  // quads[4 i + j]: column j of every 128 bits, of rows 4 i ... 4 i + 3
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(quads[j], quads[4 + j], 0xDD);
    const __m512i even_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(quads[8 + j], quads[12 + j], 0xDD);
    rows[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xDD);
    rows[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    rows[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xDD);
  }
}

}  // namespace

void pack_tile(const float* in, const PackedRows& packed, std::int64_t tile, std::int64_t block) {
  const std::int64_t first = tile * kTileWidth;
  const std::int64_t rows = least(kTileWidth, packed.rows - first);
  const std::int64_t width = packed.width;
  const auto mask = static_cast<__mmask16>((1U << width) - 1U);
  std::byte* to = packed.data + block * packed.block_bytes + tile * packed.tile_bytes;
  const std::int64_t end = least(packed.k, (block + 1) * kTileBlock);
  for (std::int64_t k = block * kTileBlock; k < end; k += kTileDepth) {
    __m512i parts[kInputParts][kTileWidth] = {};
    for (std::int64_t row = 0; row < rows; ++row) {
      Floats value = load_floats(in + (first + row) * packed.k + k, packed.k - k);
      parts[0][row] = take_part(value);
      parts[1][row] = take_part(value);
      parts[2][row] = pack(value.low, value.high);
    }
    for (__m512i* part : parts) {
      if (width == 1) {
        _mm512_store_si512(to, part[0]);
        to += kLine;
        continue;
      }
      transpose(part);
      for (int i = 0; i < 16; ++i, to += 4 * width) _mm512_mask_storeu_epi32(to, mask, part[i]);
    }
  }
}

// --- the product ----------------------------------------------------------------------------

namespace {

/// Fetches rows of the next block, some lines at a time.
class Fetch {
 public:
  Fetch(const std::byte* rows, std::int64_t row_bytes, std::int64_t count, std::int64_t bytes)
      : rows_(rows), row_bytes_(row_bytes), count_(count), bytes_(bytes) {}

  void lines(std::int64_t count) {
    for (; count > 0 && count_ > 0; --count) {
      _mm_prefetch(rows_ + at_, _MM_HINT_T1);
      at_ += kLine;
      if (at_ < bytes_) continue;
      at_ = 0;
      rows_ += row_bytes_;
      --count_;
    }
  }

 private:
  const std::byte* rows_;
  std::int64_t row_bytes_;
  std::int64_t count_;
  std::int64_t bytes_;
  std::int64_t at_ = 0;
};

/// The sums of one block of K, to be added to the totals. A stored tile register cannot be read at
/// once, so they are added while the next block is multiplied.
class Sums {
 public:
  explicit Sums(float* room) : room_(room) {}  // of four tiles

  /// Takes registers 0 ... 3, or 0 and 1: to[i] (+)= register i.
  void take(float* const* to, int tiles, bool add) {
    finish();
    tile::store<0>(room_, kLine);
    tile::store<1>(room_ + kTileFloats, kLine);
    if (tiles > 2) {
      tile::store<2>(room_ + 2 * kTileFloats, kLine);
      tile::store<3>(room_ + 3 * kTileFloats, kLine);
    }
    for (int i = 0; i < tiles; ++i) to_[i] = to[i];
    kept_ = add ? 0xFFFF : 0;
    at_ = 0;
    end_ = tiles * kTileFloats;
  }

  /// Adds an eighth of four tiles.
  void work() {
    if (at_ == end_) return;
    float* const to = to_[at_ / kTileFloats] + at_ % kTileFloats;
    const float* const from = room_ + at_;
    for (int i = 0; i < kTileFloats / 2; i += 16) {
      _mm512_store_ps(to + i,
                      _mm512_add_ps(_mm512_maskz_load_ps(kept_, to + i), _mm512_load_ps(from + i)));
    }
    at_ += kTileFloats / 2;
  }

  void finish() {
    while (at_ != end_) work();
  }

 private:
  float* room_;
  float* to_[4] = {};
  std::int64_t at_ = 0;
  std::int64_t end_ = 0;
  __mmask16 kept_ = 0;
};

/// Where the tiles of a step lie.
struct Strides {
  std::int64_t in_part = 0;
  std::int64_t in_tile = 0;
  std::int64_t in_row = 0;
};

/// Two tiles of W (registers 4 and 5) with one or two of the input (6 and 7).
template <int kTiles, bool kLoad>
inline void multiply_part(const std::byte* in, const Strides& strides) {
  if constexpr (kLoad) {
    tile::load<6>(in, strides.in_row);
    if constexpr (kTiles > 1) tile::load<7>(in + strides.in_tile, strides.in_row);
  }
  tile::multiply<0, 4, 6>();
  tile::multiply<1, 5, 6>();
  if constexpr (kTiles > 1) {
    tile::multiply<2, 4, 7>();
    tile::multiply<3, 5, 7>();
  }
}

/// Takes part `part` of both tiles of W.
template <int kParts>
inline void load_part(const std::byte* w, int part) {
  tile::load<4>(w + part * kTileBytes, kLine);
  tile::load<5>(w + (kParts + part) * kTileBytes, kLine);
}

/// One step of K. w: [2 tiles][kParts] tiles.
template <int kParts, int kTiles>
inline void multiply_step(const std::byte* w, const std::byte* in, const Strides& strides) {
  const std::byte* const in1 = in + strides.in_part;
  load_part<kParts>(w, 0);
  multiply_part<kTiles, true>(in1 + strides.in_part, strides);
  multiply_part<kTiles, true>(in1, strides);
  multiply_part<kTiles, true>(in, strides);
  if constexpr (kParts > 1) {
    load_part<kParts>(w, 1);
    multiply_part<kTiles, false>(in, strides);
    multiply_part<kTiles, true>(in1, strides);
  }
  if constexpr (kParts > 2) {
    load_part<kParts>(w, 2);
    multiply_part<kTiles, true>(in, strides);
  }
}

/// kTileColumns rows of W, kTileBlock elements of them.
template <class Rows>
struct Block {
  const std::byte* w = nullptr;
  std::int64_t row_bytes = 0;
  std::int64_t columns = 0;
  std::int64_t length = 0;

  static constexpr std::int64_t kStepBytes = 2 * Rows::kParts * kTileBytes;

  std::int64_t steps() const { return (length + kTileDepth - 1) / kTileDepth; }

  /// Splits one step of K into [2 tiles][kParts] tiles at `to`. Missing rows keep old values;
  /// nobody reads their sums.
  void split(std::int64_t step, std::byte* to) const {
    using Element = typename Rows::Element;
    const std::int64_t at = step * kTileDepth;
    const std::byte* from = w + at * static_cast<std::int64_t>(sizeof(Element));
    for (std::int64_t row = 0; row < columns; ++row, from += row_bytes, to += kLine) {
      if (row == kTileWidth) to += (Rows::kParts - 1) * kTileBytes;
      Rows::split(reinterpret_cast<const Element*>(from), length - at, to);
    }
  }
};

/// The parts of a block, split by the first tiles of the input. Where no more tiles follow, there
/// is room for two steps only, so that they stay in L1.
template <class Rows>
struct Parts {
  std::byte* data = nullptr;
  std::int64_t mask = 0;  // steps kept, less one

  std::byte* at(std::int64_t step) const { return data + (step & mask) * Block<Rows>::kStepBytes; }
};

/// Multiplies one or two tiles of the input with a block. The first call also splits the block, one
/// step ahead, so that splitting and multiplying overlap.
template <int kTiles, class Rows>
void multiply_block(const Block<Rows>& block, bool split, const Parts<Rows>& parts,
                    const std::byte* in, const Strides& strides, Fetch& fetch,
                    std::int64_t fetch_lines, Sums& sums) {
  const std::int64_t steps = block.steps();
  tile::zero<0>();
  tile::zero<1>();
  tile::zero<2>();
  tile::zero<3>();
  if (split) block.split(0, parts.at(0));
  for (std::int64_t step = 0; step < steps; ++step) {
    multiply_step<Rows::kParts, kTiles>(parts.at(step), in, strides);
    if (split && step + 1 < steps) block.split(step + 1, parts.at(step + 1));
    in += kInputParts * strides.in_part;
    fetch.lines(fetch_lines);
    sums.work();
  }
}

template <class Rows>
void multiply_all(const TileChunk& chunk, float* totals, std::byte* room, Sums& sums) {
  constexpr std::int64_t kElement = sizeof(typename Rows::Element);
  const PackedRows& in = chunk.in;
  const Strides strides = {in.part_bytes, in.tile_bytes, 4 * in.width};
  const std::int64_t pairs = (chunk.tiles + 1) / 2;
  const std::int64_t block_lines = kTileColumns * kTileBlock * kElement / kLine;
  const std::int64_t step_lines = block_lines / (kTileBlock / kTileDepth) / pairs + 1;
  const Parts<Rows> parts = {room, chunk.tiles > 2 ? kTileBlock / kTileDepth - 1 : 1};
  Block<Rows> block;
  block.row_bytes = in.k * kElement;
  for (std::int64_t k = 0; k < in.k; k += kTileBlock) {
    block.length = least(kTileBlock, in.k - k);
    const std::byte* const rows =
        in.data + k / kTileBlock * in.block_bytes + chunk.first_tile * in.tile_bytes;
    for (std::int64_t column = 0; column < chunk.columns; column += kTileColumns) {
      block.columns = least(kTileColumns, chunk.columns - column);
      block.w = chunk.w + column * block.row_bytes + k * kElement;
      const bool last_columns = column + kTileColumns >= chunk.columns;
      const bool last_k = k + kTileBlock >= in.k;
      const std::byte* const next = !last_columns ? block.w + kTileColumns * block.row_bytes
                                    : last_k      ? chunk.next_w
                                                  : chunk.w + (k + kTileBlock) * kElement;
      Fetch fetch(next, block.row_bytes, next == nullptr ? 0 : block.columns,
                  block.length * kElement);
      float* to = totals + column * chunk.tiles * kTileWidth;
      for (std::int64_t tile = 0; tile < chunk.tiles; tile += 2, to += 4 * kTileFloats) {
        float* const places[] = {to, to + kTileFloats, to + 2 * kTileFloats, to + 3 * kTileFloats};
        const std::byte* const from = rows + tile * in.tile_bytes;
        if (tile + 1 < chunk.tiles) {
          multiply_block<2>(block, tile == 0, parts, from, strides, fetch, step_lines, sums);
          sums.take(places, 4, k > 0);
        } else {
          multiply_block<1>(block, tile == 0, parts, from, strides, fetch, step_lines, sums);
          sums.take(places, 2, k > 0);
        }
      }
    }
  }
  sums.finish();
}

}  // namespace

void multiply_tiles(const TileChunk& chunk, float* scratch) {
  tile::Shapes shapes;
  for (int i = 0; i < 8; ++i) {
    // All have 16 rows: of W, or pairs of K. Sums and inputs are as wide as the input's tiles.
    shapes.rows[i] = 16;
    shapes.row_bytes[i] = static_cast<std::uint16_t>(4 * chunk.in.width);
  }
  shapes.row_bytes[4] = shapes.row_bytes[5] = kLine;  // W
  auto* const parts = reinterpret_cast<std::byte*>(scratch + kTileChunkRows * kTileChunkColumns);
  float* const room = scratch + kTileScratchFloats - 4 * kTileFloats;
  // Narrow tiles leave the rest of their rows as it is.
  for (std::int64_t i = 0; i < 4 * kTileFloats; ++i) room[i] = 0.0F;
  Sums sums(room);
  tile::configure(shapes);
  switch (chunk.w_dtype) {
    case DType::f16:
      multiply_all<HalfRows>(chunk, scratch, parts, sums);
      break;
    case DType::bf16:
      multiply_all<BrainRows>(chunk, scratch, parts, sums);
      break;
    default:
      multiply_all<FloatRows>(chunk, scratch, parts, sums);
  }
  tile::release();
}

void read_sums(const TileChunk& chunk, const float* scratch, std::int64_t tile, std::int64_t column,
               float* out) {
  const float* from = scratch + column * chunk.tiles * kTileWidth + tile * 2 * kTileFloats;
  for (std::int64_t half = 0; half < 2; ++half, from += kTileFloats, out += kTileWidth) {
    __m512i rows[kTileWidth];
    for (int i = 0; i < 16; ++i) rows[i] = _mm512_load_si512(from + 16 * i);
    transpose(rows);
    for (int i = 0; i < 16; ++i) _mm512_store_si512(out + i * kTileColumns, rows[i]);
  }
}

}  // namespace sluice::kernels
