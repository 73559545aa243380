#include "offload/checkpoint/block_format.h"

#include <cstring>

#include "kernels/half.h"

namespace sluice::offload {

namespace {

float f16_at(const std::byte* bytes) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof(bits));
  return kernels::from_f16(bits);
}

int low(std::byte byte) { return std::to_integer<int>(byte & std::byte{15}); }
int high(std::byte byte) { return std::to_integer<int>(byte >> 4); }
int from_signed(std::byte byte) { return static_cast<std::int8_t>(byte); }

/// f16 scale, then element j low and element j + 16 high in byte j; a code of 8 is 0.
void widen_q4_0(const std::byte* block, float* out) {
  const float scale = f16_at(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(low(block[2 + j]) - 8) * scale;
    out[j + 16] = static_cast<float>(high(block[2 + j]) - 8) * scale;
  }
}

/// f16 scale, then signed bytes.
void widen_q8_0(const std::byte* block, float* out) {
  const float scale = f16_at(block);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(from_signed(block[2 + j])) * scale;
}

struct ScaleAndMinimum {
  int scale;
  int minimum;
};

/// Numbers of 6 bits: eight scales and eight minima in twelve bytes.
ScaleAndMinimum six_bits(const std::byte* packed, int j) {
  const auto at = [&](int i) { return std::to_integer<int>(packed[i]); };
  if (j < 4) return {at(j) & 63, at(j + 4) & 63};
  return {(at(j + 4) & 15) | (at(j - 4) >> 6) << 4, at(j + 4) >> 4 | (at(j) >> 6) << 4};
}

/// f16 factors of scales and minima, the twelve bytes of those, codes. Each 32 bytes of codes hold
/// two groups of 32 elements: low bits, then high bits.
void widen_q4_k(const std::byte* block, float* out) {
  const float factor = f16_at(block);
  const float minimum_factor = f16_at(block + 2);
  const std::byte* const packed = block + 4;
  const std::byte* codes = block + 16;
  for (int group = 0; group < 8; group += 2, codes += 32) {
    const ScaleAndMinimum first = six_bits(packed, group);
    const ScaleAndMinimum second = six_bits(packed, group + 1);
    const float scales[] = {factor * static_cast<float>(first.scale),
                            factor * static_cast<float>(second.scale)};
    const float minima[] = {minimum_factor * static_cast<float>(first.minimum),
                            minimum_factor * static_cast<float>(second.minimum)};
    for (int i = 0; i < 32; ++i) {
      // Two roundings, as in llama.cpp: a product, then the difference.
      const float low_product = scales[0] * static_cast<float>(low(codes[i]));
      const float high_product = scales[1] * static_cast<float>(high(codes[i]));
      out[group * 32 + i] = low_product - minima[0];
      out[group * 32 + 32 + i] = high_product - minima[1];
    }
  }
}

/// Low four bits of all codes, high two bits of all, 16 signed scales, the f16 factor of those; a
/// code of 32 is 0.
void widen_q6_k(const std::byte* block, float* out) {
  const std::byte* low_bits = block;
  const std::byte* high_bits = block + 128;
  const std::byte* scales = block + 192;
  const float factor = f16_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const int high_four = std::to_integer<int>(high_bits[i]);
      const int codes[] = {low(low_bits[i]), low(low_bits[i + 32]), high(low_bits[i]),
                           high(low_bits[i + 32])};
      for (int quarter = 0; quarter < 4; ++quarter) {
        const int code = (codes[quarter] | (high_four >> (2 * quarter) & 3) << 4) - 32;
        const float scale = factor * static_cast<float>(from_signed(scales[i / 16 + 2 * quarter]));
        out[i + 32 * quarter] = scale * static_cast<float>(code);
      }
    }
    out += 128;
    low_bits += 64;
    high_bits += 32;
    scales += 8;
  }
}

}  // namespace

std::string_view name_of(BlockFormat format) {
  switch (format) {
    case BlockFormat::none:
      return "";
    case BlockFormat::q4_0:
      return "Q4_0";
    case BlockFormat::q8_0:
      return "Q8_0";
    case BlockFormat::q4_k:
      return "Q4_K";
    case BlockFormat::q6_k:
      return "Q6_K";
  }
  return "";
}

void widen_blocks(BlockFormat format, const std::byte* blocks, std::int64_t count, float* target) {
  using Widen = void (*)(const std::byte*, float*);
  Widen widen = nullptr;
  switch (format) {
    case BlockFormat::none:
      return;
    case BlockFormat::q4_0:
      widen = widen_q4_0;
      break;
    case BlockFormat::q8_0:
      widen = widen_q8_0;
      break;
    case BlockFormat::q4_k:
      widen = widen_q4_k;
      break;
    case BlockFormat::q6_k:
      widen = widen_q6_k;
      break;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    widen(blocks, target);
    blocks += block_bytes(format);
    target += block_elements(format);
  }
}

}  // namespace sluice::offload
