// The product of quantised rows by vectors of AVX2, for processors with neither tiles nor vectors
// of bytes.
//
// VPMADDUBSW multiplies unsigned bytes by signed ones and adds pairs in 16 bits, where two products
// of 8-bit codes would saturate. So a code of q8 becomes two nibbles, 16 * high + low, and a code
// of q4 is one. The pairs of half a group then add up to 8 * 2 * 15 * 128 < 2^15 at most. With few
// rows of the input, codes of q8 are widened to 16 bits instead (VPMADDWD). All sums are exact
// integers.
//
// W is taken 8 rows at a time and read once; rows further on are fetched meanwhile. With few
// rows of the input, vectors are over K and then over the rows of W; with more, over those of the
// input, and the codes of W are unpacked once for all of them.
//
// As in all files with flags of their own, no template or inline function of a library may be used
// here, and everything but the entry is in an unnamed namespace.
#include <immintrin.h>

#include "kernels/cpu/fetch-inl.h"
#include "kernels/cpu/linear_quantized.h"

namespace sluice::kernels {

namespace {

constexpr std::int64_t kFewRows = 4;    // of the input
constexpr std::int64_t kBlockRows = 8;  // of W
constexpr std::int64_t kPanel = 8;      // groups whose scales and codes are unpacked at a time
constexpr std::int64_t kFetchBytes = 16 << 10;  // how far ahead of its use W is fetched, at least
constexpr std::int64_t kHalfTile = kQuantTile / 2;
constexpr std::int64_t kScalesOfGroup = 2 * kBlockRows;  // [scale, minimum][row of W]

/// Eight rows of W, or fewer: the last once more.
struct Block {
  const std::uint8_t* rows[kBlockRows];
  std::int64_t groups;
  std::int64_t code_bytes;  // of a group
};

inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

/// v[i] lane j = v[j] lane i.
inline void transpose(__m256i* v) {
  __m256i pairs[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
  }
}

/// to[group][scale, minimum][row of W].
void unpack_scales(const Block& block, std::int64_t first, std::int64_t count, float* to) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
  const std::int64_t at = block.groups * block.code_bytes + first * 4;
  __m256i pairs[kBlockRows];
#pragma GCC unroll 8
  for (int n = 0; n < kBlockRows; ++n) {
    pairs[n] = _mm256_maskload_epi32(reinterpret_cast<const int*>(block.rows[n] + at), there);
  }
  transpose(pairs);
  const __m256i scales_first = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
  for (std::int64_t g = 0; g < count; ++g, to += kScalesOfGroup) {
    const __m256i apart =
        _mm256_permute4x64_epi64(_mm256_shuffle_epi8(pairs[g], scales_first), 0xD8);
    _mm256_store_ps(to, _mm256_cvtph_ps(_mm256_castsi256_si128(apart)));
    _mm256_store_ps(to + kBlockRows, _mm256_cvtph_ps(_mm256_extracti128_si256(apart, 1)));
  }
}

inline __m256 add_group(__m256i dot, __m256 scale, __m256 x_scale, __m256 minimum, __m256 x_sum,
                        __m256 sum) {
  sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(scale, x_scale), sum);
  return _mm256_fmadd_ps(minimum, x_sum, sum);
}

// --- few rows of the input --------------------------------------------------------------------

/// How lanes are added that belong to one dot.
struct Sums32 {
  static __m256i add(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
  static __m256i wide(__m256i sums) { return sums; }
};

/// The same in 16 bits, until four rows of W are put together.
struct Sums16 {
  static __m256i add(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
  static __m256i wide(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
};

/// Codes of 8 bits, widened to 16.
template <int kRows>
struct Bytes : Sums32 {
  static constexpr std::int64_t kGroupBytes = kQuantGroup;
  __m256i x[kRows][4];

  explicit Bytes(const PackedGroup& in) {
#pragma GCC unroll 16
    for (int i = 0; i < 4 * kRows; ++i) {
      x[i / 4][i % 4] =
          _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(in.codes + i * 16)));
    }
  }
  /// sums[r] = lanes that add up to the dot with row r of the input.
  void multiply(const std::uint8_t* codes, __m256i* sums) const {
    const auto* const from = reinterpret_cast<const __m128i*>(codes);
    const __m256i w0 = _mm256_cvtepu8_epi16(_mm_loadu_si128(from));
    const __m256i w1 = _mm256_cvtepu8_epi16(_mm_loadu_si128(from + 1));
    const __m256i w2 = _mm256_cvtepu8_epi16(_mm_loadu_si128(from + 2));
    const __m256i w3 = _mm256_cvtepu8_epi16(_mm_loadu_si128(from + 3));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sums[r] = _mm256_add_epi32(
          _mm256_add_epi32(_mm256_madd_epi16(w0, x[r][0]), _mm256_madd_epi16(w1, x[r][1])),
          _mm256_add_epi32(_mm256_madd_epi16(w2, x[r][2]), _mm256_madd_epi16(w3, x[r][3])));
    }
  }
};

/// Codes of 4 bits. A sum of 16 bits is of 16 products at most: 16 * 15 * 128 < 2^15.
template <int kRows>
struct Nibbles : Sums16 {
  static constexpr std::int64_t kGroupBytes = kQuantGroup / 2;
  const std::int8_t* x;

  explicit Nibbles(const PackedGroup& in) : x(in.codes) {}
  void multiply(const std::uint8_t* codes, __m256i* sums) const {
    const __m256i fifteen = _mm256_set1_epi8(15);
    const __m256i both = load(codes);
    const __m256i low = _mm256_and_si256(both, fifteen);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), fifteen);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sums[r] =
          _mm256_add_epi16(_mm256_maddubs_epi16(low, load(x + r * kQuantGroup)),
                           _mm256_maddubs_epi16(high, load(x + r * kQuantGroup + kQuantGroup / 2)));
    }
  }
};

/// dots[r] lane n = the group at `at` of row n of W by row r of the input. Sums are put together as
/// soon as two are there: registers are few.
template <int kRows, class Codes>
inline void dot_few(const Block& block, std::int64_t at, const Codes& codes, __m256i* dots) {
  __m256i fours[2][kRows];
#pragma GCC unroll 2
  for (int f = 0; f < 2; ++f) {
    __m256i twos[2][kRows];
#pragma GCC unroll 2
    for (int t = 0; t < 2; ++t) {
      __m256i a[kRows], b[kRows];
      codes.multiply(block.rows[4 * f + 2 * t] + at, a);
      codes.multiply(block.rows[4 * f + 2 * t + 1] + at, b);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        twos[t][r] =
            Codes::add(_mm256_unpacklo_epi32(a[r], b[r]), _mm256_unpackhi_epi32(a[r], b[r]));
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      fours[f][r] = Codes::wide(Codes::add(_mm256_unpacklo_epi64(twos[0][r], twos[1][r]),
                                           _mm256_unpackhi_epi64(twos[0][r], twos[1][r])));
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    dots[r] = _mm256_add_epi32(_mm256_permute2x128_si256(fours[0][r], fours[1][r], 0x20),
                               _mm256_permute2x128_si256(fours[0][r], fours[1][r], 0x31));
  }
}

/// sums[row of the input][8 of W], in rows of QuantizedChunk::kColumns.
template <int kRows, class Codes>
void sum_few(const Block& block, const PackedGroup* in, float* scales, Fetch& fetch, float* sums) {
  __m256 sum[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sum[r] = _mm256_setzero_ps();
  for (std::int64_t first = 0; first < block.groups; first += kPanel) {
    const std::int64_t left = block.groups - first;
    const std::int64_t count = left < kPanel ? left : kPanel;
    unpack_scales(block, first, count, scales);
    for (std::int64_t g = 0; g < count; ++g) {
      const PackedGroup& group = in[first + g];
      __m256i dots[kRows];
      dot_few<kRows>(block, (first + g) * Codes::kGroupBytes, Codes(group), dots);
      fetch.step();
      const __m256 scale = _mm256_load_ps(scales + g * kScalesOfGroup);
      const __m256 minimum = _mm256_load_ps(scales + g * kScalesOfGroup + kBlockRows);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sum[r] = add_group(dots[r], scale, _mm256_set1_ps(group.scale[r]), minimum,
                           _mm256_set1_ps(group.sum[r]), sum[r]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) _mm256_store_ps(sums + r * QuantizedChunk::kColumns, sum[r]);
}

template <template <int> class Codes>
void sum_few_rows(std::int64_t rows, const Block& block, const PackedGroup* in, float* scales,
                  Fetch& fetch, float* sums) {
  static_assert(kFewRows == 4);
  switch (rows) {
    case 1:
      return sum_few<1, Codes<1>>(block, in, scales, fetch, sums);
    case 2:
      return sum_few<2, Codes<2>>(block, in, scales, fetch, sums);
    case 3:
      return sum_few<3, Codes<3>>(block, in, scales, fetch, sums);
    default:
      return sum_few<4, Codes<4>>(block, in, scales, fetch, sums);
  }
}

// --- more rows --------------------------------------------------------------------------------

/// Rows of nibbles that a row of W is to the products.
template <bool kNibbles>
constexpr std::int64_t kParts = kNibbles ? 1 : 2;

/// to[group][row of W][low, high four bits, or the code][64], a byte each.
template <bool kNibbles>
void unpack_codes(const Block& block, std::int64_t first, std::int64_t count, std::uint8_t* to) {
  const __m256i fifteen = _mm256_set1_epi8(15);
  for (std::int64_t g = first; g < first + count; ++g) {
    for (const std::uint8_t* const row : block.rows) {
      for (std::int64_t i = 0; i < block.code_bytes; i += 32) {
        const __m256i both = load(row + g * block.code_bytes + i);
        auto* const low = reinterpret_cast<__m256i*>(to + i);
        auto* const high = reinterpret_cast<__m256i*>(to + i + block.code_bytes);
        _mm256_store_si256(low, _mm256_and_si256(both, fifteen));
        _mm256_store_si256(high, _mm256_and_si256(_mm256_srli_epi16(both, 4), fifteen));
      }
      to += kParts<kNibbles> * kQuantGroup;
    }
  }
}

/// sum += products, in 16 bits. Left alone, the compiler adds in another order, in which it needs
/// more registers than there are.
inline void add_pairs(__m256i& sum, __m256i products) {
  sum = _mm256_add_epi16(sum, products);
  __asm__("" : "+x"(sum));
}

/// sums[n][half] = 8 rows of nibbles, or 4 for two halves, by 8 or 16 rows of the input, over half
/// of a group, in pairs of 16 bits.
template <int kHalves>
inline void multiply_nibbles(const std::uint8_t* codes, const std::int8_t* in,
                             __m256i (*sums)[kHalves]) {
  constexpr int kCodeRows = 8 / kHalves;
  __m256i sum[kCodeRows][kHalves];
#pragma GCC unroll 8
  for (std::int64_t k = 0; k < kQuantGroup / 2; k += 4) {
    __m256i x[kHalves];
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) x[h] = load(in + k * kQuantTile + h * 32);
#pragma GCC unroll 8
    for (int n = 0; n < kCodeRows; ++n) {
      std::int32_t four = 0;
      __builtin_memcpy(&four, codes + n * kQuantGroup + k, sizeof(four));
      const __m256i w = _mm256_set1_epi32(four);
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        const __m256i products = _mm256_maddubs_epi16(w, x[h]);
        if (k == 0) {
          sum[n][h] = products;
        } else {
          add_pairs(sum[n][h], products);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) sums[i / kHalves][i % kHalves] = sum[i / kHalves][i % kHalves];
}

/// dots[row of W][half] of one group: 8 / kHalves / kParts rows.
template <bool kNibbles, int kHalves>
inline void dot_tile(const std::uint8_t* codes, const std::int8_t* in, __m256i (*dots)[kHalves]) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i sixteens = _mm256_set1_epi16(16);
  __m256i first[8 / kHalves][kHalves], second[8 / kHalves][kHalves];
  multiply_nibbles<kHalves>(codes, in, first);
  multiply_nibbles<kHalves>(codes + kQuantGroup / 2, in + kQuantGroup / 2 * kQuantTile, second);
#pragma GCC unroll 8
  for (int n = 0; n < 8 / kHalves; n += kParts<kNibbles>) {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      __m256i dot = _mm256_add_epi32(_mm256_madd_epi16(first[n][h], ones),
                                     _mm256_madd_epi16(second[n][h], ones));
      if constexpr (!kNibbles) {
        const __m256i high = _mm256_add_epi32(_mm256_madd_epi16(first[n + 1][h], sixteens),
                                              _mm256_madd_epi16(second[n + 1][h], sixteens));
        dot = _mm256_add_epi32(dot, high);
      }
      dots[n / kParts<kNibbles>][h] = dot;
    }
  }
}

/// state [8 of W][16 of the input] += a panel of groups, of 8 or 16 rows of the input.
template <bool kNibbles, int kHalves>
void add_panel(const std::uint8_t* codes, const float* scales, const PackedGroup* in,
               std::int64_t count, float* state, Fetch& fetch) {
  constexpr std::int64_t kRows = 8 / kHalves / kParts<kNibbles>;  // of W at a time
  for (std::int64_t g = 0; g < count; ++g, scales += kScalesOfGroup) {
    fetch.step();
    for (std::int64_t n = 0; n < kBlockRows; n += kRows) {
      __m256i dots[kRows][kHalves];
      dot_tile<kNibbles, kHalves>(codes, in[g].codes, dots);
      codes += kRows * kParts<kNibbles> * kQuantGroup;
#pragma GCC unroll 8
      for (int i = 0; i < kRows * kHalves; ++i) {
        const std::int64_t row = n + i / kHalves, h = i % kHalves * kHalfTile;
        float* const to = state + row * kQuantTile + h;
        const __m256 sum =
            add_group(dots[i / kHalves][i % kHalves], _mm256_set1_ps(scales[row]),
                      _mm256_load_ps(in[g].scale + h), _mm256_set1_ps(scales[kBlockRows + row]),
                      _mm256_load_ps(in[g].sum + h), _mm256_load_ps(to));
        _mm256_store_ps(to, sum);
      }
    }
  }
}

/// to[row of the input][row of W] = state[row of W][row of the input].
void store_state(const float* state, std::int64_t rows, float* to) {
  for (std::int64_t first = 0; first < rows; first += kHalfTile) {
    __m256i sums[kBlockRows];
#pragma GCC unroll 8
    for (int n = 0; n < kBlockRows; ++n) {
      sums[n] = _mm256_castps_si256(_mm256_load_ps(state + n * kQuantTile + first));
    }
    transpose(sums);
    for (std::int64_t m = 0; m < kHalfTile && first + m < rows; ++m) {
      _mm256_store_ps(to + (first + m) * QuantizedChunk::kColumns, _mm256_castsi256_ps(sums[m]));
    }
  }
}

struct Scratch {
  float* scales;        // [kPanel][scale, minimum][8]
  std::uint8_t* codes;  // [kPanel][8][kParts][64]
  float* states;        // [tiles][8][16]
};
constexpr std::int64_t kCodeFloats = kPanel * kBlockRows * 2 * kQuantGroup / 4;
constexpr std::int64_t kStateFloats = kBlockRows * kQuantTile;
static_assert(kPanel * kScalesOfGroup + kCodeFloats + QuantizedChunk::kTiles * kStateFloats <=
              kProductScratchFloats);

template <bool kNibbles>
void sum_tiles(const QuantizedChunk& chunk, const Block& block, const Scratch& scratch,
               Fetch& fetch, float* sums) {
  for (std::int64_t i = 0; i < chunk.tiles * kStateFloats; i += 8) {
    _mm256_store_ps(scratch.states + i, _mm256_setzero_ps());
  }
  for (std::int64_t first = 0; first < block.groups; first += kPanel) {
    const std::int64_t left = block.groups - first;
    const std::int64_t count = left < kPanel ? left : kPanel;
    unpack_scales(block, first, count, scratch.scales);
    unpack_codes<kNibbles>(block, first, count, scratch.codes);
    for (std::int64_t tile = 0; tile < chunk.tiles; ++tile) {
      const auto add = chunk.rows - tile * kQuantTile > kHalfTile ? add_panel<kNibbles, 2>
                                                                  : add_panel<kNibbles, 1>;
      add(scratch.codes, scratch.scales, chunk.in + tile * block.groups + first, count,
          scratch.states + tile * kStateFloats, fetch);
    }
  }
  for (std::int64_t tile = 0; tile < chunk.tiles; ++tile) {
    const std::int64_t rows = chunk.rows - tile * kQuantTile;
    store_state(scratch.states + tile * kStateFloats, rows < kQuantTile ? rows : kQuantTile,
                sums + tile * kQuantTile * QuantizedChunk::kColumns);
  }
}

/// How many rows of W lie between those that are multiplied and those that are fetched, whole
/// blocks. One block of short rows is multiplied in less time than memory needs to answer.
std::int64_t rows_ahead(const QuantizedChunk& chunk, std::int64_t row_bytes) {
  const std::int64_t wanted = 1 + kFetchBytes / (kBlockRows * row_bytes);
  const std::int64_t there = (chunk.columns + kBlockRows - 1) / kBlockRows;
  return kBlockRows * (wanted < there ? wanted : there);
}

template <bool kNibbles>
void sum_chunk(const QuantizedChunk& chunk, float* sums, float* floats) {
  const Scratch scratch = {floats,
                           reinterpret_cast<std::uint8_t*>(floats + kPanel * kScalesOfGroup),
                           floats + kPanel * kScalesOfGroup + kCodeFloats};
  Block block = {{}, chunk.groups, kNibbles ? kQuantGroup / 2 : kQuantGroup};
  const std::int64_t row_bytes = chunk.groups * (block.code_bytes + 4);
  const std::int64_t ahead = rows_ahead(chunk, row_bytes);
  for (std::int64_t n = 0; n < chunk.columns; n += kBlockRows) {
    const std::int64_t rest = chunk.columns - n;
    const std::byte* const w = chunk.w + n * row_bytes;
    for (std::int64_t i = 0; i < kBlockRows; ++i) {
      const std::int64_t row = i < rest ? i : rest - 1;
      block.rows[i] = reinterpret_cast<const std::uint8_t*>(w + row * row_bytes);
    }
    const std::byte* then = w + ahead * row_bytes;
    if (ahead >= rest) {
      then = chunk.w_next == nullptr ? nullptr : chunk.w_next + (ahead - rest) * row_bytes;
    }
    Fetch fetch;
    fetch.start(then, kBlockRows * row_bytes, chunk.groups * (chunk.interleaved ? chunk.tiles : 1));
    if (chunk.interleaved) {
      sum_tiles<kNibbles>(chunk, block, scratch, fetch, sums + n);
    } else {
      const auto few = kNibbles ? sum_few_rows<Nibbles> : sum_few_rows<Bytes>;
      few(chunk.rows, block, chunk.in, scratch.scales, fetch, sums + n);
    }
  }
}

void sum_by_pairs(const QuantizedChunk& chunk, float* sums, float* scratch) {
  const auto sum = chunk.w_dtype == DType::q4 ? sum_chunk<true> : sum_chunk<false>;
  sum(chunk, sums, scratch);
}

}  // namespace

QuantizedProduct pair_product() { return {kFewRows + 1, sum_by_pairs}; }

}  // namespace sluice::kernels
