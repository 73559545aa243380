// 16-bit floats as integers, to nearest, ties to even, NaN kept: the same bits on every machine.
#pragma once

#include <cstdint>
#include <cstring>

namespace sluice::kernels {

inline std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline std::uint16_t to_f16(float value) {
  constexpr std::uint32_t kInfinity = 0x7F800000U;
  constexpr std::uint32_t kOverflow = 0x477FF000U;   // 65520: half way to the next, which is none
  constexpr std::uint32_t kSubnormal = 0x38800000U;  // 2^-14
  constexpr std::uint32_t kRebias = (127U - 15U) << 23;
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > kInfinity) return static_cast<std::uint16_t>(sign | 0x7E00U);  // NaN
  if (magnitude >= kOverflow) return static_cast<std::uint16_t>(sign | 0x7C00U);
  if (magnitude < kSubnormal) {
    // Beside 0.5 the last bit of a float is worth 2^-24, that of a subnormal f16.
    const float shifted = (sign != 0 ? -value : value) + 0.5F;
    return static_cast<std::uint16_t>(sign | (bits_of(shifted) - bits_of(0.5F)));
  }
  const std::uint32_t rounded = magnitude - kRebias + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

inline std::uint16_t to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  const std::uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  return static_cast<std::uint16_t>((nan ? bits | 0x400000U : rounded) >> 16);
}

inline float from_f16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1FU;
  const std::uint32_t fraction = half & 0x3FFU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 0xFFU : exponent + (127U - 15U);
  const std::uint32_t bits = sign | (wide << 23) | (fraction << 13);
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float from_bf16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace sluice::kernels
