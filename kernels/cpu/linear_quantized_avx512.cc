// The dots of codes by vectors of bytes: VPDPBUSD multiplies four neighbours of a row of W by four
// of each of 16 rows of the input. For processors with AVX-512 VNNI and no tiles.
#include <immintrin.h>

#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/linear_quantized_avx512-inl.h"

namespace sluice::kernels {

namespace {

/// Sums of the lanes of v[0] ... v[15], in this order.
inline __m512i sum_lanes(__m512i* v) {
  for (int i = 0; i < 8; ++i) {
    const __m512i a = v[2 * i], b = v[2 * i + 1];
    v[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  }
  for (int i = 0; i < 4; ++i) {
    const __m512i a = v[2 * i], b = v[2 * i + 1];
    v[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  }
  for (int i = 0; i < 2; ++i) {
    const __m512i a = v[2 * i], b = v[2 * i + 1];
    v[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
  }
  return _mm512_add_epi32(_mm512_shuffle_i32x4(v[0], v[1], 0x88),
                          _mm512_shuffle_i32x4(v[0], v[1], 0xDD));
}

struct ByteProducts {
  static void start(std::int64_t, std::int64_t) {}
  static void end() {}

  /// The codes of row n of W, or of the last.
  static const std::uint8_t* codes_of(const Block& block, std::int64_t group, std::int64_t of_panel,
                                      std::int64_t n) {
    const std::int64_t row = n < block.rows ? n : block.rows - 1;
    if (block.nibbles) return block.codes + (of_panel * kQuantTile + row) * kQuantGroup;
    return reinterpret_cast<const std::uint8_t*>(block.w + row * block.row_bytes +
                                                 group * kQuantGroup);
  }

  static void multiply(const Block& block, std::int64_t group, std::int64_t of_panel,
                       const PackedGroup& in, std::int64_t input_rows, std::int32_t* products) {
    if (input_rows == 1) {
      const __m512i x = _mm512_load_si512(in.codes);
      __m512i dots[16];
#pragma GCC unroll 16
      for (int n = 0; n < 16; ++n) {
        dots[n] = _mm512_dpbusd_epi32(_mm512_setzero_si512(),
                                      _mm512_loadu_si512(codes_of(block, group, of_panel, n)), x);
      }
      _mm512_store_si512(products, sum_lanes(dots));
      return;
    }
    for (std::int64_t n = 0; n < kQuantTile; n += kRows) {
      multiply_rows(block, group, of_panel, in, n, products + n * kQuantTile);
    }
  }

 private:
  static constexpr int kRows = 8;  // of W whose sums are in registers

  static void multiply_rows(const Block& block, std::int64_t group, std::int64_t of_panel,
                            const PackedGroup& in, std::int64_t first, std::int32_t* products) {
    const std::uint8_t* w[kRows];
    __m512i dots[kRows];
#pragma GCC unroll 8
    for (int n = 0; n < kRows; ++n) {
      w[n] = codes_of(block, group, of_panel, first + n);
      dots[n] = _mm512_setzero_si512();
    }
    for (std::int64_t k = 0; k < kQuantGroup; k += 4) {
      const __m512i inputs = _mm512_load_si512(in.codes + k * kQuantTile);
#pragma GCC unroll 8
      for (int n = 0; n < kRows; ++n) {
        std::int32_t four = 0;
        __builtin_memcpy(&four, w[n] + k, sizeof(four));
        dots[n] = _mm512_dpbusd_epi32(dots[n], _mm512_set1_epi32(four), inputs);
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < kRows; ++n) _mm512_store_si512(products + n * kQuantTile, dots[n]);
  }
};

}  // namespace

QuantizedProduct byte_product() { return {2, sum_chunk<ByteProducts>}; }

}  // namespace sluice::kernels
