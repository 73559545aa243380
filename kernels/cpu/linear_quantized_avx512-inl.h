// The product of quantised rows by vectors of AVX-512: everything but the dots of codes themselves,
// which Products makes (of tiles: linear_quantized_amx.cc, of vectors: linear_quantized_avx512.cc).
//
// W is taken 16 rows at a time. The codes of q8 are multiplied as they lie in W, those of q4 are
// spread to bytes first. Every group's integers are scaled and added by vectors over 16 rows of the
// input, while the next groups are multiplied; of a single row, by vectors over the rows of W.
// W is read once: the 16 rows after the present ones are fetched meanwhile, evenly, so that memory
// never rests.
//
// For files compiled with their own flags. They may use no template or inline function of a
// library, because the linker could give this file's copy to another file. For the same reason
// everything here is in an unnamed namespace.
//
// Products has
//   start(weight_rows, input_rows)  before 16 rows of W, or fewer; input_rows is 16 or 1
//   multiply(block, group, of_panel, in, input_rows, products)
//                                   products[16 of W][input_rows] = the dots of one group, which is
//                                   the panel's of_panel-th; where the rows of W end: anything
//   end()                           after the last
#pragma once

#include <immintrin.h>

#include "kernels/cpu/fetch-inl.h"
#include "kernels/cpu/linear_quantized.h"

namespace sluice::kernels {
namespace {

constexpr std::int64_t kPanel = 16;  // groups whose scales and codes are unpacked at a time
constexpr std::int64_t kAhead = 2;
constexpr std::int64_t kTileFloats = kQuantTile * kQuantTile;

/// The compiler does not know that tile loads read memory.
inline void memory_is_written() { __asm__ volatile("" ::: "memory"); }

/// Sixteen rows of W, or fewer, and room for what is unpacked of them.
struct Block {
  const std::byte* w;
  std::int64_t row_bytes;
  std::int64_t rows;
  std::int64_t groups;
  bool nibbles;
  float* scales;        // [16][2 * kPanel]: scale, minimum
  std::uint8_t* codes;  // [kPanel][16][64], of nibbles

  std::int64_t code_bytes() const { return nibbles ? kQuantGroup / 2 : kQuantGroup; }
};

void unpack_scales(const Block& block, std::int64_t first, std::int64_t count) {
  const __mmask16 low = static_cast<__mmask16>((1U << (count < 8 ? count * 2 : 16)) - 1U);
  const __mmask16 high = static_cast<__mmask16>((1U << (count > 8 ? count * 2 - 16 : 0)) - 1U);
  for (std::int64_t n = 0; n < block.rows; ++n) {
    const std::byte* from =
        block.w + n * block.row_bytes + block.groups * block.code_bytes() + first * 4;
    float* to = block.scales + n * 2 * kPanel;
    _mm512_store_ps(to, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(low, from)));
    _mm512_store_ps(to + 16, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(high, from + 32)));
  }
}

void unpack_nibbles(const Block& block, std::int64_t first, std::int64_t count) {
  // The 32 bytes twice: as they are, and shifted by a nibble.
  const __m512i shift = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
  const __m512i mask = _mm512_set1_epi8(15);
  for (std::int64_t n = 0; n < block.rows; ++n) {
    const std::byte* from = block.w + n * block.row_bytes + first * (kQuantGroup / 2);
    std::uint8_t* to = block.codes + n * kQuantGroup;
    for (std::int64_t g = 0; g < count; ++g) {
      const __m512i twice = _mm512_broadcast_i64x4(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + g * (kQuantGroup / 2))));
      _mm512_store_si512(to + g * kQuantTile * kQuantGroup,
                         _mm512_and_si512(_mm512_srlv_epi16(twice, shift), mask));
    }
  }
}

inline void add_group(__m512* sums, const std::int32_t* products, const float* scales,
                      const PackedGroup& in) {
  const __m512 scale = _mm512_load_ps(in.scale);
  const __m512 sum = _mm512_load_ps(in.sum);
#pragma GCC unroll 16
  for (int n = 0; n < 16; ++n) {
    const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(products + n * 16));
    const __m512 step = _mm512_mul_ps(_mm512_set1_ps(scales[n * 2 * kPanel]), scale);
    sums[n] = _mm512_fmadd_ps(dot, step, sums[n]);
    sums[n] = _mm512_fmadd_ps(_mm512_set1_ps(scales[n * 2 * kPanel + 1]), sum, sums[n]);
  }
}

/// state [16 of W][16 of the input] (+)= a panel of groups. The tiles run kAhead groups before the
/// vectors: their results are read once they have come to memory.
template <class Products>
void add_panel(const Block& block, const PackedGroup* in, std::int64_t first, std::int64_t count,
               std::int32_t* products, float* state, Fetch& fetch) {
  __m512 sums[16];
#pragma GCC unroll 16
  for (int n = 0; n < 16; ++n) {
    sums[n] = first > 0 ? _mm512_load_ps(state + n * 16) : _mm512_setzero_ps();
  }
  for (std::int64_t g = -kAhead; g < count; ++g) {
    const std::int64_t ahead = g + kAhead;
    if (ahead < count) {
      Products::multiply(block, first + ahead, ahead, in[first + ahead], kQuantTile,
                         products + ahead % (2 * kAhead) * kTileFloats);
    }
    if (g < 0) continue;
    fetch.step();
    add_group(sums, products + g % (2 * kAhead) * kTileFloats, block.scales + 2 * g, in[first + g]);
  }
#pragma GCC unroll 16
  for (int n = 0; n < 16; ++n) _mm512_store_ps(state + n * 16, sums[n]);
}

/// As add_panel, where the input is one row: vectors are over the rows of W, and state is [16].
template <class Products>
void add_panel_of_row(const Block& block, const PackedGroup* in, std::int64_t first,
                      std::int64_t count, std::int32_t* products, float* state, Fetch& fetch) {
  for (std::int64_t g = 0; g < count; ++g) {
    Products::multiply(block, first + g, g, in[first + g], 1, products + g * kQuantTile);
    fetch.step();
  }
  const auto rows = static_cast<__mmask16>((1U << block.rows) - 1U);
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(block.row_bytes)));
  const std::byte* const scales = block.w + block.groups * block.code_bytes() + first * 4;
  __m512 sum = first > 0 ? _mm512_load_ps(state) : _mm512_setzero_ps();
  for (std::int64_t g = 0; g < count; ++g) {
    const __m512i pairs =
        _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), rows, at, scales + g * 4, 1);
    const __m512 scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
    const __m512 minimum = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)));
    const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(products + g * kQuantTile));
    const __m512 step = _mm512_mul_ps(scale, _mm512_set1_ps(in[first + g].scale[0]));
    sum = _mm512_fmadd_ps(dot, step, sum);
    sum = _mm512_fmadd_ps(minimum, _mm512_set1_ps(in[first + g].sum[0]), sum);
  }
  _mm512_store_ps(state, sum);
}

/// to[m][n] = state[n][m], for the `rows` first m.
void transpose(const float* state, std::int64_t rows, float* to) {
  const __m512i index =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                         _mm512_set1_epi32(16));
  for (std::int64_t m = 0; m < rows; ++m) {
    _mm512_store_ps(to + m * QuantizedChunk::kColumns, _mm512_i32gather_ps(index, state + m, 4));
  }
}

struct Scratch {
  float* scales;           // [16][2 * kPanel]
  std::uint8_t* codes;     // [kPanel][16][64]
  std::int32_t* products;  // [2 * kAhead][16][16]
  float* states;           // [tiles][16][16]
};

Scratch cut_scratch(float* floats) {
  Scratch scratch = {};
  scratch.scales = floats;
  floats += kQuantTile * 2 * kPanel;
  scratch.codes = reinterpret_cast<std::uint8_t*>(floats);
  floats += kPanel * kQuantTile * kQuantGroup / 4;
  scratch.products = reinterpret_cast<std::int32_t*>(floats);
  floats += 2 * kAhead * kTileFloats;
  scratch.states = floats;
  static_assert(kQuantTile * 2 * kPanel + kPanel * kQuantTile * kQuantGroup / 4 +
                    (2 * kAhead + QuantizedChunk::kTiles) * kTileFloats <=
                kProductScratchFloats);
  return scratch;
}

template <class Products>
void sum_chunk(const QuantizedChunk& chunk, float* sums, float* scratch_floats) {
  const Scratch scratch = cut_scratch(scratch_floats);
  const bool nibbles = chunk.w_dtype == DType::q4;
  const std::int64_t row_bytes = chunk.groups * ((nibbles ? kQuantGroup / 2 : kQuantGroup) + 4);
  std::int64_t configured = 0;
  for (std::int64_t n = 0; n < chunk.columns; n += kQuantTile) {
    const std::int64_t rest = chunk.columns - n;
    const Block block = {
        chunk.w + n * row_bytes, row_bytes,    rest < 16 ? rest : 16, chunk.groups, nibbles,
        scratch.scales,          scratch.codes};
    if (block.rows != configured) Products::start(block.rows, chunk.interleaved ? 16 : 1);
    configured = block.rows;
    Fetch fetch;
    const std::int64_t after = rest - 16;
    fetch.start(after > 0 ? block.w + 16 * row_bytes : chunk.w_next,
                (after > 0 && after < 16 ? after : 16) * row_bytes, chunk.groups * chunk.tiles);
    for (std::int64_t first = 0; first < chunk.groups; first += kPanel) {
      const std::int64_t left = chunk.groups - first;
      const std::int64_t count = left < kPanel ? left : kPanel;
      if (nibbles) unpack_nibbles(block, first, count);
      memory_is_written();
      if (!chunk.interleaved) {
        add_panel_of_row<Products>(block, chunk.in, first, count, scratch.products, scratch.states,
                                   fetch);
        continue;
      }
      unpack_scales(block, first, count);
      for (std::int64_t tile = 0; tile < chunk.tiles; ++tile) {
        add_panel<Products>(block, chunk.in + tile * chunk.groups, first, count, scratch.products,
                            scratch.states + tile * kTileFloats, fetch);
      }
    }
    if (!chunk.interleaved) {
      _mm512_store_ps(sums + n, _mm512_load_ps(scratch.states));
      continue;
    }
    for (std::int64_t tile = 0; tile < chunk.tiles; ++tile) {
      const std::int64_t rows = chunk.rows - tile * 16;
      transpose(scratch.states + tile * kTileFloats, rows < 16 ? rows : 16,
                sums + tile * 16 * QuantizedChunk::kColumns + n);
    }
  }
  Products::end();
}

}  // namespace
}  // namespace sluice::kernels
