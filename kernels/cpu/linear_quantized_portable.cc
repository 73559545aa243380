// The product of quantised rows by ordinary vectors: codes are widened to 16 bits and multiplied
// in pairs, four rows of W at a time, group by group. Faster than reading memory for few rows of
// the input; for many, about a tenth of what tiles do.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_quantized_portable.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

constexpr int kWeightRows = 4;
constexpr std::int64_t kPanelGroups = 64;  // whose scales are widened at a time
constexpr std::int64_t kScaleStride = 2 * kPanelGroups + 16;

using Shorts = hn::ScalableTag<std::int16_t>;
using Ints = hn::ScalableTag<std::int32_t>;
using FourInts = hn::CappedTag<std::int32_t, 4>;
using FourFloats = hn::CappedTag<float, 4>;

/// The codes of one group as 16-bit integers.
HWY_INLINE void widen_codes(const std::uint8_t* from, bool nibbles, std::int16_t* to) {
  const Shorts d;
  const hn::Rebind<std::uint8_t, Shorts> bytes;
  constexpr std::int64_t kStep = hn::MaxLanes(Shorts());
  constexpr std::int64_t kHalf = kQuantGroup / 2;
  if (!nibbles) {
    for (std::int64_t i = 0; i < kQuantGroup; i += kStep) {
      hn::StoreU(hn::PromoteTo(d, hn::LoadU(bytes, from + i)), d, to + i);
    }
    return;
  }
  for (std::int64_t i = 0; i < kHalf; i += kStep) {
    const auto pair = hn::PromoteTo(d, hn::LoadU(bytes, from + i));
    hn::StoreU(hn::And(pair, hn::Set(d, 15)), d, to + i);
    hn::StoreU(hn::ShiftRight<4>(pair), d, to + i + kHalf);
  }
}

template <class D>
HWY_INLINE hn::Vec<FourInts> sum_int_blocks(D, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return sum_int_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

/// The sums of the lanes of v0 ... v3, in this order.
HWY_INLINE hn::Vec<FourInts> sum_int_lanes(hn::Vec<Ints> v0, hn::Vec<Ints> v1, hn::Vec<Ints> v2,
                                           hn::Vec<Ints> v3) {
  const Ints d;
  const hn::Repartition<std::int64_t, Ints> pairs;
  const auto v01 = hn::Add(hn::InterleaveLower(d, v0, v1), hn::InterleaveUpper(d, v0, v1));
  const auto v23 = hn::Add(hn::InterleaveLower(d, v2, v3), hn::InterleaveUpper(d, v2, v3));
  const auto p01 = hn::BitCast(pairs, v01);
  const auto p23 = hn::BitCast(pairs, v23);
  return sum_int_blocks(d, hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, p01, p23)),
                                   hn::BitCast(d, hn::InterleaveUpper(pairs, p01, p23))));
}

/// x . w[c] for the four rows of W.
HWY_INLINE hn::Vec<FourInts> dot_codes(const std::int8_t* x, const std::int16_t* w) {
  const Shorts d;
  const Ints wide;
  const hn::Rebind<std::int8_t, Shorts> bytes;
  constexpr std::int64_t kStep = hn::MaxLanes(Shorts());
  auto sum0 = hn::Zero(wide), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  auto odd0 = sum0, odd1 = sum0, odd2 = sum0, odd3 = sum0;
  for (std::int64_t i = 0; i < kQuantGroup; i += kStep) {
    const auto codes = hn::PromoteTo(d, hn::LoadU(bytes, x + i));
    const std::int16_t* const at = w + i;
    sum0 = hn::ReorderWidenMulAccumulate(wide, codes, hn::LoadU(d, at), sum0, odd0);
    sum1 = hn::ReorderWidenMulAccumulate(wide, codes, hn::LoadU(d, at + kQuantGroup), sum1, odd1);
    sum2 =
        hn::ReorderWidenMulAccumulate(wide, codes, hn::LoadU(d, at + 2 * kQuantGroup), sum2, odd2);
    sum3 =
        hn::ReorderWidenMulAccumulate(wide, codes, hn::LoadU(d, at + 3 * kQuantGroup), sum3, odd3);
  }
  return sum_int_lanes(hn::Add(sum0, odd0), hn::Add(sum1, odd1), hn::Add(sum2, odd2),
                       hn::Add(sum3, odd3));
}

/// Four rows of W, or fewer: the last once more.
struct Quad {
  const std::byte* rows[kWeightRows];
  std::int64_t code_bytes;  // of a group
  bool nibbles;
};

/// sums[m][0, 4) (+)= the groups [first, first + count).
void add_quad(const QuantizedChunk& chunk, const Quad& quad, std::int64_t first, std::int64_t count,
              float* sums, float* scales) {
  const Floats d;
  const FourFloats d4;
  for (int c = 0; c < kWeightRows; ++c) {
    const std::byte* from = quad.rows[c] + chunk.groups * quad.code_bytes + first * 4;
    widen(d, reinterpret_cast<const hwy::float16_t*>(from), 2 * count, scales + c * kScaleStride);
  }
  for (std::int64_t g = 0; g < count; ++g) {
    alignas(64) std::int16_t codes[kWeightRows * kQuantGroup];
    alignas(16) float scale[kWeightRows];
    alignas(16) float minimum[kWeightRows];
    for (int c = 0; c < kWeightRows; ++c) {
      const std::byte* from = quad.rows[c] + (first + g) * quad.code_bytes;
      widen_codes(reinterpret_cast<const std::uint8_t*>(from), quad.nibbles,
                  codes + c * kQuantGroup);
      scale[c] = scales[c * kScaleStride + 2 * g];
      minimum[c] = scales[c * kScaleStride + 2 * g + 1];
    }
    const auto w_scale = hn::Load(d4, scale);
    const auto w_minimum = hn::Load(d4, minimum);
    for (std::int64_t m = 0; m < chunk.rows; ++m) {
      const std::int64_t of_tile = m % kQuantTile;
      const PackedGroup& in = chunk.in[m / kQuantTile * chunk.groups + first + g];
      const auto dot = hn::ConvertTo(d4, dot_codes(in.codes + of_tile * kQuantGroup, codes));
      float* const to = sums + m * QuantizedChunk::kColumns;
      auto sum = first + g == 0 ? hn::Zero(d4) : hn::LoadU(d4, to);
      sum = hn::MulAdd(dot, hn::Mul(w_scale, hn::Set(d4, in.scale[of_tile])), sum);
      sum = hn::MulAdd(w_minimum, hn::Set(d4, in.sum[of_tile]), sum);
      hn::StoreU(sum, d4, to);
    }
  }
}

void sum_by_vectors(const QuantizedChunk& chunk, float* sums, float* scratch) {
  const std::int64_t code_bytes = chunk.w_dtype == DType::q4 ? kQuantGroup / 2 : kQuantGroup;
  const std::int64_t row_bytes = chunk.groups * (code_bytes + 4);
  for (std::int64_t n = 0; n < chunk.columns; n += kWeightRows) {
    Quad quad = {{}, code_bytes, chunk.w_dtype == DType::q4};
    for (int c = 0; c < kWeightRows; ++c) {
      quad.rows[c] = chunk.w + std::min(n + c, chunk.columns - 1) * row_bytes;
    }
    for (std::int64_t first = 0; first < chunk.groups; first += kPanelGroups) {
      add_quad(chunk, quad, first, std::min(kPanelGroups, chunk.groups - first), sums + n, scratch);
    }
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {
HWY_EXPORT(sum_by_vectors);
QuantizedProduct portable_product() {
  return {QuantizedProduct::kNever, HWY_DYNAMIC_DISPATCH(sum_by_vectors)};
}
}  // namespace sluice::kernels
#endif  // HWY_ONCE
