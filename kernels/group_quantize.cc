#include "kernels/group_quantize.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/device/error.h"
#include "kernels/half.h"

namespace sluice::kernels {

namespace {

constexpr float kLargest = 65504.0F;  // of f16

float element_of(DType dtype, const void* data, std::int64_t index) {
  switch (dtype) {
    case DType::f16:
      return from_f16(static_cast<const std::uint16_t*>(data)[index]);
    case DType::bf16:
      return from_bf16(static_cast<const std::uint16_t*>(data)[index]);
    default:
      return static_cast<const float*>(data)[index];
  }
}

struct Scale {
  std::uint16_t scale;
  std::uint16_t minimum;
};

/// Rounded to f16, the minimum down and the scale up enough that no element is far outside.
Scale scale_of(const float* values, std::int64_t count, float levels) {
  const auto [low, high] = std::minmax_element(values, values + count);
  Scale result = {};
  result.minimum = to_f16(*low);
  const float range = *high - from_f16(result.minimum);
  result.scale = to_f16(std::max(range, 0.0F) / levels);
  if (result.scale == 0 && *high > *low) result.scale = 1;  // the least there is
  return result;
}

void quantize_group(const float* values, std::int64_t count, DType to, std::uint8_t* codes,
                    std::byte* scale_target) {
  const int levels = to == DType::q8 ? 255 : 15;
  const Scale scale = scale_of(values, count, static_cast<float>(levels));
  std::memcpy(scale_target, &scale, sizeof(scale));
  const float step = from_f16(scale.scale);
  const float minimum = from_f16(scale.minimum);
  const float inverse = step > 0 ? 1.0F / step : 0.0F;
  std::uint8_t wide[kQuantGroup] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    const float code = std::nearbyint((values[i] - minimum) * inverse);
    wide[i] = static_cast<std::uint8_t>(std::clamp(code, 0.0F, static_cast<float>(levels)));
  }
  if (to == DType::q8) {
    std::memcpy(codes, wide, sizeof(wide));
    return;
  }
  constexpr std::int64_t kHalf = kQuantGroup / 2;
  for (std::int64_t i = 0; i < kHalf; ++i) {
    codes[i] = static_cast<std::uint8_t>(wide[i] | (wide[i + kHalf] << 4));
  }
}

std::size_t code_bytes(DType dtype) { return dtype == DType::q8 ? kQuantGroup : kQuantGroup / 2; }

std::int64_t groups_of(std::int64_t columns) { return (columns + kQuantGroup - 1) / kQuantGroup; }

}  // namespace

void quantize_rows(DType from, const void* source, std::int64_t rows, std::int64_t columns,
                   DType to, void* target) {
  const std::int64_t groups = groups_of(columns);
  for (std::int64_t row = 0; row < rows; ++row) {
    auto* const base =
        static_cast<std::byte*>(target) + static_cast<std::size_t>(row) * row_bytes_of(to, columns);
    auto* const codes = reinterpret_cast<std::uint8_t*>(base);
    std::byte* const scales = base + static_cast<std::size_t>(groups) * code_bytes(to);
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t first = group * kQuantGroup;
      const std::int64_t count = std::min(kQuantGroup, columns - first);
      float values[kQuantGroup];
      for (std::int64_t i = 0; i < count; ++i) {
        values[i] = element_of(from, source, row * columns + first + i);
        if (!(std::abs(values[i]) <= kLargest)) {
          throw InputError(fmt::format(
              "row {}, column {} is {}, which cannot be quantised: elements must lie between "
              "-65504 and 65504; run without compression",
              row, first + i, values[i]));
        }
      }
      quantize_group(values, count, to, codes + static_cast<std::size_t>(group) * code_bytes(to),
                     scales + group * 4);
    }
  }
}

void dequantize_rows(DType from, const void* source, std::int64_t rows, std::int64_t columns,
                     float* target) {
  const std::int64_t groups = groups_of(columns);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto* const base = static_cast<const std::byte*>(source) +
                             static_cast<std::size_t>(row) * row_bytes_of(from, columns);
    const auto* const codes = reinterpret_cast<const std::uint8_t*>(base);
    const std::byte* const scales = base + static_cast<std::size_t>(groups) * code_bytes(from);
    for (std::int64_t i = 0; i < columns; ++i) {
      const std::int64_t group = i / kQuantGroup;
      const std::int64_t at = i % kQuantGroup;
      Scale scale = {};
      std::memcpy(&scale, scales + group * 4, sizeof(scale));
      const std::uint8_t* const of_group =
          codes + static_cast<std::size_t>(group) * code_bytes(from);
      const int code = from == DType::q8      ? of_group[at]
                       : at < kQuantGroup / 2 ? of_group[at] & 15
                                              : of_group[at - kQuantGroup / 2] >> 4;
      target[row * columns + i] =
          from_f16(scale.minimum) + from_f16(scale.scale) * static_cast<float>(code);
    }
  }
}

}  // namespace sluice::kernels
