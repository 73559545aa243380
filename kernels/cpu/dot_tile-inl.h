// The heart of linear(): dot products of a few rows with four others. Attention's scores have the
// same sums (score_tile()).
//
// The law of kernels/ops.h lives here. Every result is the sum, lane by lane, of products at
// distance kLanes, then a fixed tree over the lanes; the tree is the same for each of the four
// columns and for every number of rows. So a result depends on its own two rows alone.
#include <hwy/highway.h>

#include <cstdint>

#if defined(SLUICE_KERNELS_CPU_DOT_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_DOT_TILE_INL_H_
#undef SLUICE_KERNELS_CPU_DOT_TILE_INL_H_
#else
#define SLUICE_KERNELS_CPU_DOT_TILE_INL_H_
#endif

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

constexpr int kTileColumns = 4;
/// Rows of the largest tile: 24 sums where there are 32 vector registers, 12 where there are 16.
constexpr int kTileRows = HWY_MAX_BYTES >= 64 ? 6 : 3;

template <class D>
HWY_INLINE hn::Vec<hn::CappedTag<float, 4>> sum_blocks(D, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return sum_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

/// The sums of the lanes of v0 ... v3, in this order.
HWY_INLINE hn::Vec<hn::CappedTag<float, 4>> sum_lanes(Floats d, Vector v0, Vector v1, Vector v2,
                                                      Vector v3) {
  const hn::Repartition<std::uint64_t, Floats> pairs;
  const Vector v01 = hn::Add(hn::InterleaveLower(d, v0, v1), hn::InterleaveUpper(d, v0, v1));
  const Vector v23 = hn::Add(hn::InterleaveLower(d, v2, v3), hn::InterleaveUpper(d, v2, v3));
  const auto p01 = hn::BitCast(pairs, v01);
  const auto p23 = hn::BitCast(pairs, v23);
  return sum_blocks(d, hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, p01, p23)),
                               hn::BitCast(d, hn::InterleaveUpper(pairs, p01, p23))));
}

/// For dot_tile(): fetches nothing ahead.
struct NoFetch {
  HWY_INLINE void operator()(std::int64_t) const {}
};

/// out[r][c] (+)= a[r] . b[c] over `length` elements, for r < kRows and c < kColumns, which is 4 or
/// 8. `a` and `out` have strides in elements. With `add` the product is added to what is there.
/// fetch(i) is called before the elements [i, i + kLanes) of each of b.
template <int kRows, int kColumns, class T, class Fetch>
HWY_INLINE void dot_tile(const float* a, std::int64_t a_stride, const T* const* b,
                         std::int64_t length, float* out, std::int64_t out_stride, bool add,
                         const Fetch& fetch) {
  static_assert(kColumns % kTileColumns == 0);
  const Floats d;
  const T* w[kColumns];
  Vector sum[kRows][kColumns];
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
    w[c] = b[c];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r][c] = hn::Zero(d);
  }
  std::int64_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    fetch(i);
    Vector x[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) x[r] = hn::LoadU(d, a + r * a_stride + i);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Vector column = load(d, w[c] + i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][c] = hn::MulAdd(x[r], column, sum[r][c]);
    }
  }
  if (i < length) {
    const std::int64_t rest = length - i;
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Vector column = load_first(d, w[c] + i, rest);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        sum[r][c] = hn::MulAdd(load_first(d, a + r * a_stride + i, rest), column, sum[r][c]);
      }
    }
  }
  const hn::CappedTag<float, 4> d4;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; c += kTileColumns) {
      auto total = sum_lanes(d, sum[r][c], sum[r][c + 1], sum[r][c + 2], sum[r][c + 3]);
      float* const to = out + r * out_stride + c;
      if (add) total = hn::Add(hn::LoadU(d4, to), total);
      hn::StoreU(total, d4, to);
    }
  }
}

/// dot_tile over `rows` rows and four columns, in tiles.
template <class T, class Fetch = NoFetch>
HWY_INLINE void dot_rows(std::int64_t rows, const float* a, std::int64_t a_stride,
                         const T* const* b, std::int64_t length, float* out,
                         std::int64_t out_stride, bool add, const Fetch& fetch = {}) {
  while (rows > 0) {
    const std::int64_t tile = rows < kTileRows ? rows : kTileRows;
    switch (tile) {
      case 1:
        dot_tile<1, kTileColumns>(a, a_stride, b, length, out, out_stride, add, fetch);
        break;
      case 2:
        dot_tile<2, kTileColumns>(a, a_stride, b, length, out, out_stride, add, fetch);
        break;
      case 3:
        dot_tile<3, kTileColumns>(a, a_stride, b, length, out, out_stride, add, fetch);
        break;
      case 4:
        dot_tile<4, kTileColumns>(a, a_stride, b, length, out, out_stride, add, fetch);
        break;
      case 5:
        dot_tile<5, kTileColumns>(a, a_stride, b, length, out, out_stride, add, fetch);
        break;
      default:
        dot_tile<kTileRows, kTileColumns>(a, a_stride, b, length, out, out_stride, add, fetch);
        break;
    }
    rows -= tile;
    a += tile * a_stride;
    out += tile * out_stride;
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_DOT_TILE_INL_H_
