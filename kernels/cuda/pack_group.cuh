// A group of 64 elements quantised by eight lanes, as kernels::quantize_rows does it: the same
// codes, scale and minimum. What cannot be quantised makes the group's scale and minimum NaN.
#pragma once

#include "kernels/cuda/chunks.cuh"

namespace sluice::cuda {

/// Of a group.
struct GroupEnds {
  float low;
  float high;
  bool bad;  // it has what cannot be quantised: beyond f16, or NaN
};

/// Of two words of two elements, the larger or smaller ones; NaN where either is.
template <class T, bool kLarger>
__device__ inline unsigned extreme(unsigned a, unsigned b) {
  typename PairOf<T>::Type pair[2];
  memcpy(static_cast<void*>(&pair[0]), &a, sizeof(a));
  memcpy(static_cast<void*>(&pair[1]), &b, sizeof(b));
  pair[0] = kLarger ? __hmax2_nan(pair[0], pair[1]) : __hmin2_nan(pair[0], pair[1]);
  memcpy(&a, &pair[0], sizeof(a));
  return a;
}

/// Of the group, by its lanes' two quads each; every lane of the warp calls. Lows go with their
/// signs changed, beside the highs.
template <class T>
__device__ inline GroupEnds ends_of(const uint2 (&quad)[2]) {
  const unsigned high = extreme<T, true>(extreme<T, true>(quad[0].x, quad[0].y),
                                         extreme<T, true>(quad[1].x, quad[1].y));
  const unsigned low = extreme<T, false>(extreme<T, false>(quad[0].x, quad[0].y),
                                         extreme<T, false>(quad[1].x, quad[1].y)) ^
                       0x80008000U;
  unsigned both = extreme<T, true>(__byte_perm(high, low, 0x5410), __byte_perm(high, low, 0x7632));
#pragma unroll
  for (int distance = 4; distance > 0; distance /= 2) {
    both = extreme<T, true>(both, __shfl_xor_sync(~0U, both, distance));
  }
  const float2 ends = widen_word<T>(both);
  return {-ends.y, ends.x, !(fmaxf(ends.x, ends.y) <= 65504.0F)};  // NaN is in both or in neither
}
__device__ inline GroupEnds ends_of(const float (&value)[8]) {
  float low = value[0];
  float high = value[0];
  bool bad = false;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    low = fminf(low, value[i]);
    high = fmaxf(high, value[i]);
    bad = bad || !(fabsf(value[i]) <= 65504.0F);
  }
#pragma unroll
  for (int distance = 4; distance > 0; distance /= 2) {
    low = fminf(low, __shfl_xor_sync(~0U, low, distance));
    high = fmaxf(high, __shfl_xor_sync(~0U, high, distance));
  }
  const unsigned of_group = 0xFFU << (threadIdx.x % 32 / 8 * 8);
  return {low, high, (__ballot_sync(~0U, bad ? 1 : 0) & of_group) != 0};
}

/// 1 / x to within two units of the last place, for x a positive number of f16; of 0 infinity.
__device__ inline float near_reciprocal(float x) {
#ifdef __CUDACC__
  float result = 0;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  const float result = 1.0F / x;
  const unsigned off = __float_as_uint(x) / 8192 % 5;  // it may be wrong, by 2 units at most
  return x > 0.0F ? __uint_as_float(__float_as_uint(result) + off - 2) : result;
#endif
}

/// A quotient, or a reciprocal, to the last bit (Markstein, "Computation of elementary functions on
/// the IBM RISC System/6000 processor", 1990): `near` is close to a / b, `inverse` to 1 / b.
__device__ inline float refined(float a, float b, float near, float inverse) {
  return fmaf(fmaf(-b, near, a), inverse, near);
}

template <DType kType>
__device__ inline GroupScale scale_of(const GroupEnds& ends) {
  constexpr float kLevels = kType == DType::q8 ? 255.0F : 15.0F;
  GroupScale packed;
  packed.minimum = __float2half_rn(ends.low + 0.0F);  // a minimum of -0 is 0
  const float range = fmaxf(ends.high - __half2float(packed.minimum), 0.0F);
  packed.scale = __float2half_rn(refined(range, kLevels, range * (1 / kLevels), 1 / kLevels));
  if (__half_as_ushort(packed.scale) == 0 && ends.high > ends.low) {
    packed.scale = __ushort_as_half(1);
  }
  if (ends.bad) packed.minimum = packed.scale = __ushort_as_half(0x7E00);
  return packed;
}

template <DType kType>
constexpr float kCodeSpan = kType == DType::q8 ? 256.0F : 16.0F;

/// 1 / scale / kCodeSpan; NaN where the scale is 0 or NaN.
template <DType kType>
__device__ inline float part_of(const GroupScale& packed) {
  const float step = __half2float(packed.scale);
  const float near = near_reciprocal(step);
  return refined(1.0F, step, near, near) * (1 / kCodeSpan<kType>);
}

/// Codes of four elements, a byte each; 0 where `part` is NaN.
template <DType kType>
__device__ inline unsigned codes_of(const float* value, float minimum, float part) {
  constexpr float kSpan = kCodeSpan<kType>;
  unsigned bits[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Added to 2^23, a number is rounded as by rintf(), into the low bits.
    const float share = fminf(__saturatef((value[i] - minimum) * part), (kSpan - 1) / kSpan);
    bits[i] = __float_as_uint(fmaf(share, kSpan, 8388608.0F));
  }
  return __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040),
                     0x5410);
}

}  // namespace sluice::cuda
