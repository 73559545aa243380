// From dtypes known when the program runs to templates, and the grid of kernels that go over rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/product_views.h"
#include "kernels/device/tensor_view.h"

namespace sluice::cuda {

/// body.operator()<T>() with the element type of an activation.
template <class Body>
void with_activation(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f16:
      return body.template operator()<__half>();
    case DType::bf16:
      return body.template operator()<__nv_bfloat16>();
    default:
      return body.template operator()<float>();
  }
}

/// A block (or more, in y) per row; a thread per chunk of 8 columns.
struct RowGrid {
  RowGrid(std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kMostThreads = 256;
    const std::int64_t chunks = (columns + kChunk - 1) / kChunk;
    const std::int64_t warps = (std::min(chunks, kMostThreads) + 31) / 32;
    threads = static_cast<unsigned>(warps * 32);
    blocks.x = static_cast<unsigned>(rows);
    blocks.y = static_cast<unsigned>((chunks + threads - 1) / threads);
  }
  dim3 blocks;
  unsigned threads;
};

/// Whether every row begins on `bytes` and is a multiple of them. True of what is not there.
inline bool rows_aligned(const TensorView& view, std::size_t bytes) {
  return view.rows == 0 ||
         (reinterpret_cast<std::uintptr_t>(view.data) | view.row_bytes()) % bytes == 0;
}
inline bool rows_aligned(const Columns& view, std::size_t bytes) {
  const std::size_t row = static_cast<std::size_t>(view.stride) * size_of(view.dtype);
  return !view.there() ||
         (reinterpret_cast<std::uintptr_t>(view.data) | (view.rows > 1 ? row : 0)) % bytes == 0;
}

inline DeviceVector vector_of(const TensorView& view) {
  return {view.rows > 0 ? view.data : nullptr, view.dtype};
}

inline ProductEnd end_of(const ProductTail& tail) {
  return {{tail.bias.data, tail.bias.dtype},
          tail.activation,
          {tail.residual.data, tail.residual.dtype},
          tail.residual.stride,
          tail.combine};
}

}  // namespace sluice::cuda
