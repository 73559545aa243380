// Non-owning views of matrices. Whoever makes a view says what keeps its bytes alive.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device/dtype.h"

namespace sluice {

/// A dense row-major matrix [rows, columns]. A vector is a matrix of one row.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  bool operator==(const TensorView&) const = default;
  std::size_t row_bytes() const { return row_bytes_of(dtype, columns); }
  std::size_t bytes() const { return static_cast<std::size_t>(rows) * row_bytes(); }
  std::byte* row(std::int64_t index) const {
    return static_cast<std::byte*>(data) + static_cast<std::size_t>(index) * row_bytes();
  }
  /// Rows [first, first + count) of this view.
  TensorView slice(std::int64_t first, std::int64_t count) const {
    return {row(first), dtype, count, columns};
  }
};

/// A weight matrix whose rows lie in at most two places: the first `resident.rows` rows stay on the
/// device for the whole run, the rest were streamed into a slot. Either part may be empty.
/// dtype and columns of both parts agree.
struct SplitMatrix {
  TensorView resident;
  TensorView streamed;

  bool operator==(const SplitMatrix&) const = default;
  std::int64_t rows() const { return resident.rows + streamed.rows; }
  std::int64_t columns() const { return resident.rows > 0 ? resident.columns : streamed.columns; }
  DType dtype() const { return resident.rows > 0 ? resident.dtype : streamed.dtype; }
};

}  // namespace sluice
