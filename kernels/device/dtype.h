// Element types of tensors, as they lie in checkpoints, tiers and kernels.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice {

/// q8, q4: group-wise quantised rows (kernels/group_quantize.h), 8 or 4 bits an element.
enum class DType : std::uint8_t { f32, f16, bf16, q8, q4, i32 };

/// Elements that share a scale and a minimum. FlexGen: CompressionConfig.group_size.
constexpr std::int64_t kQuantGroup = 64;

constexpr bool is_quantized(DType dtype) { return dtype == DType::q8 || dtype == DType::q4; }

/// Bytes of one element. Not of quantised types, which only have rows.
constexpr std::size_t size_of(DType dtype) {
  assert(!is_quantized(dtype));
  return dtype == DType::f32 || dtype == DType::i32 ? 4 : 2;
}

/// Bytes of a dense row of `columns` elements. A quantised row is whole groups: the codes of all of
/// them, then an f16 scale and an f16 minimum of each.
constexpr std::size_t row_bytes_of(DType dtype, std::int64_t columns) {
  const auto count = static_cast<std::size_t>(columns);
  if (!is_quantized(dtype)) return count * size_of(dtype);
  constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);
  const std::size_t codes = dtype == DType::q8 ? kGroup : kGroup / 2;
  return (count + kGroup - 1) / kGroup * (codes + 4);
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::q8:
      return "q8";
    case DType::q4:
      return "q4";
    case DType::i32:
      return "i32";
  }
  return "?";
}

}  // namespace sluice
