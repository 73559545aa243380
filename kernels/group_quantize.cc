#include "kernels/group_quantize.h"

#include <fmt/core.h>

#include <cmath>
#include <cstddef>
#include <cstring>

#include "kernels/cpu/quantize_row.h"
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

[[noreturn]] void refuse_row(DType dtype, const void* source, std::int64_t columns,
                             std::int64_t row) {
  for (std::int64_t i = 0; i < columns; ++i) {
    const float value = element_of(dtype, source, row * columns + i);
    if (std::abs(value) <= kLargest) continue;
    throw InputError(
        fmt::format("row {}, column {} is {}, which cannot be quantised: elements must lie between "
                    "-65504 and 65504; run without compression",
                    row, i, value));
  }
  throw InputError(fmt::format("row {} cannot be quantised; run without compression", row));
}

std::size_t code_bytes(DType dtype) { return dtype == DType::q8 ? kQuantGroup : kQuantGroup / 2; }

std::int64_t groups_of(std::int64_t columns) { return (columns + kQuantGroup - 1) / kQuantGroup; }

}  // namespace

void quantize_rows(DType from, const void* source, std::int64_t rows, std::int64_t columns,
                   DType to, void* target) {
  const std::size_t source_bytes = row_bytes_of(from, columns);
  const std::size_t target_bytes = row_bytes_of(to, columns);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto at = static_cast<std::size_t>(row);
    const bool sound =
        quantize_row(from, static_cast<const std::byte*>(source) + at * source_bytes, columns, to,
                     static_cast<std::byte*>(target) + at * target_bytes);
    if (!sound) refuse_row(from, source, columns, row);
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
