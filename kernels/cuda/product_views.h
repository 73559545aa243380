// Operands of products as launches take them.
#pragma once

#include <cstdint>

#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::cuda {

/// Some columns of a row-major matrix: `stride` elements from row to row. data == null: none.
struct Columns {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;

  bool there() const { return data != nullptr; }
  /// Columns [first, first + count).
  Columns columns_from(std::int64_t first, std::int64_t count) const {
    if (!there()) return {};
    return {static_cast<std::byte*>(data) + static_cast<std::size_t>(first) * size_of(dtype), dtype,
            rows, count, stride};
  }
  /// Rows [first, first + count).
  Columns rows_from(std::int64_t first, std::int64_t count) const {
    if (!there()) return {};
    return {
        static_cast<std::byte*>(data) + static_cast<std::size_t>(first * stride) * size_of(dtype),
        dtype, count, columns, stride};
  }
  static Columns of(const TensorView& view) {
    if (view.rows == 0) return {};
    return {view.data, view.dtype, view.rows, view.columns, view.columns};
  }
};

/// What a residual does to the rest of a result.
enum class Combine : std::uint8_t { add, multiply };

/// activation(sums + bias), then combined with the residual; bias and residual, of the result's
/// columns, may be absent.
struct ProductTail {
  Columns bias;
  kernels::Activation activation = kernels::Activation::none;
  Columns residual;
  Combine combine = Combine::add;

  bool empty() const {
    return !bias.there() && activation == kernels::Activation::none && !residual.there();
  }
  /// Of columns [first, first + count) of the result, or of rows.
  ProductTail columns_from(std::int64_t first, std::int64_t count) const {
    ProductTail some = *this;
    some.bias = bias.columns_from(first, count);
    some.residual = residual.columns_from(first, count);
    return some;
  }
  ProductTail rows_from(std::int64_t first, std::int64_t count) const {
    ProductTail some = *this;
    some.residual = residual.rows_from(first, count);
    return some;
  }
};

}  // namespace sluice::cuda
