// The product of quantised rows by tiles: TDPBUSD multiplies 16 rows of W by 16 rows of the input
// over 64 elements, which is one group. The codes of q8 are a tile as they lie in W; those of q4
// are spread to bytes first. Every group's integers are then scaled and added by vectors over the
// 16 input rows, while the next group is multiplied.
//
// W is read once, 16 rows at a time: the 16 after them are fetched meanwhile, evenly, so that
// memory never rests. Compiled with flags of its own: no template or inline function of a library
// may be used here, lest another file gets this file's copy.
#include <immintrin.h>

#include "kernels/cpu/linear_quantized.h"

namespace sluice::kernels {

namespace {

constexpr std::int64_t kPanel = 16;  // groups whose scales and codes are unpacked at a time
constexpr std::int64_t kAhead = 2;
constexpr std::int64_t kTileFloats = kQuantTile * kQuantTile;
constexpr std::int64_t kLine = 64;

// Tile registers, which the intrinsics want as literals: 0 products, 1 weights, 2 inputs.

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

/// `weight_rows` and `input_rows` of the 16 are there.
void configure(std::int64_t weight_rows, std::int64_t input_rows) {
  TileConfig config;
  config.row_bytes[0] = config.row_bytes[2] = static_cast<std::uint16_t>(input_rows * 4);
  config.row_bytes[1] = 64;
  config.rows[0] = config.rows[1] = static_cast<std::uint8_t>(weight_rows);
  config.rows[2] = 16;
  _tile_loadconfig(&config);
}

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
  const __m256i mask = _mm256_set1_epi8(15);
  for (std::int64_t n = 0; n < block.rows; ++n) {
    const std::byte* from = block.w + n * block.row_bytes + first * (kQuantGroup / 2);
    std::uint8_t* to = block.codes + n * kQuantGroup;
    for (std::int64_t g = 0; g < count; ++g) {
      const __m256i pair =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + g * (kQuantGroup / 2)));
      const __m256i low = _mm256_and_si256(pair, mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(pair, 4), mask);
      _mm512_store_si512(to + g * kQuantTile * kQuantGroup,
                         _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
    }
  }
}

/// Fetches a piece of memory ahead of its use, a few lines at every step.
struct Fetch {
  const std::byte* next = nullptr;
  const std::byte* end = nullptr;
  std::int64_t lines = 0;  // per step

  void start(const std::byte* from, std::int64_t bytes, std::int64_t steps) {
    next = from;
    end = from == nullptr ? nullptr : from + bytes;
    lines = (bytes / kLine + steps) / steps;
  }
  void step() {
    for (std::int64_t i = 0; i < lines && next < end; ++i, next += kLine) {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
    }
  }
};

/// products [16 of W][input_rows] of one group.
inline void multiply(const Block& block, std::int64_t group, std::int64_t of_panel,
                     const PackedGroup& in, std::int64_t input_rows, std::int32_t* products) {
  _tile_zero(0);
  if (block.nibbles) {
    _tile_loadd(1, block.codes + of_panel * kQuantTile * kQuantGroup, kQuantGroup);
  } else {
    _tile_loadd(1, block.w + group * kQuantGroup, block.row_bytes);
  }
  _tile_loadd(2, in.codes.data(), input_rows * 4);
  _tile_dpbusd(0, 1, 2);
  _tile_stored(0, products, input_rows * 4);
}

inline void add_group(__m512* sums, const std::int32_t* products, const float* scales,
                      const PackedGroup& in) {
  const __m512 scale = _mm512_load_ps(in.scale.data());
  const __m512 sum = _mm512_load_ps(in.sum.data());
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
      multiply(block, first + ahead, ahead, in[first + ahead], kQuantTile,
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
void add_panel_of_row(const Block& block, const PackedGroup* in, std::int64_t first,
                      std::int64_t count, std::int32_t* products, float* state, Fetch& fetch) {
  for (std::int64_t g = 0; g < count; ++g) {
    multiply(block, first + g, g, in[first + g], 1, products + g * kQuantTile);
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
  return scratch;
}

void sum_by_tiles(const QuantizedChunk& chunk, float* sums, float* scratch_floats) {
  const Scratch scratch = cut_scratch(scratch_floats);
  const bool nibbles = chunk.w_dtype == DType::q4;
  const std::int64_t row_bytes = chunk.groups * ((nibbles ? kQuantGroup / 2 : kQuantGroup) + 4);
  std::int64_t configured = 0;
  for (std::int64_t n = 0; n < chunk.columns; n += kQuantTile) {
    const std::int64_t rest = chunk.columns - n;
    const Block block = {
        chunk.w + n * row_bytes, row_bytes,    rest < 16 ? rest : 16, chunk.groups, nibbles,
        scratch.scales,          scratch.codes};
    if (block.rows != configured) configure(block.rows, chunk.interleaved ? 16 : 1);
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
        add_panel_of_row(block, chunk.in, first, count, scratch.products, scratch.states, fetch);
        continue;
      }
      unpack_scales(block, first, count);
      for (std::int64_t tile = 0; tile < chunk.tiles; ++tile) {
        add_panel(block, chunk.in + tile * chunk.groups, first, count, scratch.products,
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
  _tile_release();
}

}  // namespace

QuantizedProduct tile_product() { return {true, sum_by_tiles}; }

}  // namespace sluice::kernels
