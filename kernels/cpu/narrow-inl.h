// Floats narrowed to what a cache keeps, to the same bits as kernels/half.h and
// kernels/group_quantize.h on every machine: by integers, since conversions of the processors
// differ in what they do with ties and NaN.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(SLUICE_KERNELS_CPU_NARROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_NARROW_INL_H_
#undef SLUICE_KERNELS_CPU_NARROW_INL_H_
#else
#define SLUICE_KERNELS_CPU_NARROW_INL_H_
#endif

#include "kernels/cpu/vectors-inl.h"
#include "kernels/device/dtype.h"
#include "kernels/half.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

using Integers = hn::RebindToSigned<Floats>;
using IntegerVector = hn::Vec<Integers>;

/// to_f16() of each lane.
HWY_INLINE IntegerVector f16_bits(Floats d, Vector value) {
  const Integers n;
  const auto whole = [&](std::int32_t constant) { return hn::Set(n, constant); };
  const auto bits = hn::BitCast(n, value);
  const auto magnitude = hn::And(bits, whole(0x7FFFFFFF));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), whole(1));
  const auto rebias = whole(((127 - 15) << 23) - 0xFFF);
  const auto normal = hn::ShiftRight<13>(hn::Add(hn::Sub(magnitude, rebias), odd));
  const Vector half = hn::Set(d, 0.5F);
  const auto small =
      hn::Sub(hn::BitCast(n, hn::Add(hn::BitCast(d, magnitude), half)), hn::BitCast(n, half));
  auto result = hn::IfThenElse(hn::Lt(magnitude, whole(0x38800000)), small, normal);
  result = hn::IfThenElse(hn::Lt(magnitude, whole(0x477FF000)), result, whole(0x7C00));
  result = hn::IfThenElse(hn::Gt(magnitude, whole(0x7F800000)), whole(0x7E00), result);
  return hn::Or(result, hn::And(hn::ShiftRight<16>(bits), whole(0x8000)));
}

/// to_bf16() of each lane.
HWY_INLINE IntegerVector bf16_bits(Vector value) {
  const Integers n;
  const auto bits = hn::BitCast(n, value);
  const auto magnitude = hn::And(bits, hn::Set(n, 0x7FFFFFFF));
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(n, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(n, 0x7FFF)), odd);
  const auto nan = hn::Or(bits, hn::Set(n, 0x400000));
  const auto kept = hn::IfThenElse(hn::Gt(magnitude, hn::Set(n, 0x7F800000)), nan, rounded);
  return hn::And(hn::ShiftRight<16>(kept), hn::Set(n, 0xFFFF));
}

/// f16 or bf16.
HWY_INLINE void narrow_to_halves(const float* from, std::int64_t count, DType dtype,
                                 std::uint16_t* to) {
  const Floats d;
  const hn::Rebind<std::uint16_t, Floats> halves;
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vector value = hn::LoadU(d, from + i);
    const auto bits = dtype == DType::f16 ? f16_bits(d, value) : bf16_bits(value);
    hn::StoreU(hn::DemoteTo(halves, bits), halves, to + i);
  }
  for (; i < count; ++i) to[i] = dtype == DType::f16 ? to_f16(from[i]) : to_bf16(from[i]);
}

struct GroupFactors {
  std::uint16_t scale;
  std::uint16_t minimum;
};

/// As quantize_rows() makes them out of the least and the largest element.
HWY_INLINE GroupFactors factors_of(float low, float high, float levels) {
  GroupFactors factors = {};
  factors.minimum = to_f16(low);
  const float range = high - from_f16(factors.minimum);
  factors.scale = to_f16(std::max(0.0F, range) / levels);  // this way round never -0
  if (factors.scale == 0 && high > low) factors.scale = 1;
  return factors;
}

/// One group of q8 or q4. An element that cannot be quantised makes the group NaN, so that only its
/// own row shows the fault.
HWY_INLINE void quantize_group(const float* from, std::int64_t count, DType dtype,
                               std::uint8_t* codes, std::byte* factors_target) {
  const Floats d;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  float values[kQuantGroup];
  std::copy(from, from + count, values);
  std::fill(values + count, values + kQuantGroup, from[0]);
  Vector low = hn::LoadU(d, values);
  Vector high = low;
  auto sound = hn::Le(hn::Abs(low), hn::Set(d, 65504.0F));
  for (std::int64_t i = kLanes; i < kQuantGroup; i += kLanes) {
    const Vector value = hn::LoadU(d, values + i);
    sound = hn::And(sound, hn::Le(hn::Abs(value), hn::Set(d, 65504.0F)));
    low = hn::Min(low, value);
    high = hn::Max(high, value);
  }
  const float levels = dtype == DType::q8 ? 255.0F : 15.0F;
  GroupFactors factors = {0x7E00, 0x7E00};  // NaN
  if (hn::AllTrue(d, sound)) {
    // The zero is for a minimum of -0, which is whichever of two zeros came first.
    factors = factors_of(hn::GetLane(hn::MinOfLanes(d, low)) + 0.0F,
                         hn::GetLane(hn::MaxOfLanes(d, high)), levels);
  }
  std::memcpy(factors_target, &factors, sizeof(factors));
  const float step = from_f16(factors.scale);
  const Vector inverse = hn::Set(d, step > 0 ? 1.0F / step : 0.0F);
  const Vector minimum = hn::Set(d, from_f16(factors.minimum));
  std::uint8_t wide[kQuantGroup];
  for (std::int64_t i = 0; i < kQuantGroup; i += kLanes) {
    const Vector code = hn::Mul(hn::Sub(hn::LoadU(d, values + i), minimum), inverse);
    const Vector kept = hn::Min(hn::Max(code, hn::Zero(d)), hn::Set(d, levels));
    hn::StoreU(hn::DemoteTo(bytes, hn::NearestInt(kept)), bytes, wide + i);
  }
  std::fill(wide + count, wide + kQuantGroup, std::uint8_t{0});
  if (dtype == DType::q8) {
    std::memcpy(codes, wide, sizeof(wide));
    return;
  }
  constexpr std::int64_t kHalf = kQuantGroup / 2;
  for (std::int64_t i = 0; i < kHalf; ++i) {
    codes[i] = static_cast<std::uint8_t>(wide[i] | (wide[i + kHalf] << 4));
  }
}

HWY_INLINE void narrow_to_codes(const float* from, std::int64_t count, DType dtype, void* to) {
  const std::int64_t groups = (count + kQuantGroup - 1) / kQuantGroup;
  const std::int64_t code_bytes = dtype == DType::q8 ? kQuantGroup : kQuantGroup / 2;
  auto* const codes = static_cast<std::uint8_t*>(to);
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t first = g * kQuantGroup;
    quantize_group(from + first, std::min(kQuantGroup, count - first), dtype,
                   codes + g * code_bytes,
                   static_cast<std::byte*>(to) + groups * code_bytes + 4 * g);
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_NARROW_INL_H_
