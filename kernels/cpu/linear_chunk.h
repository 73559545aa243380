// One piece of linear(): what a thread does without asking any other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear_call.h"
#include "kernels/device/dtype.h"
#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::kernels {

/// K is summed in blocks of this many elements, in order: part of the result's bits.
constexpr std::int64_t kBlockLength = 1024;
constexpr std::int64_t kChunkColumns = 64;
constexpr std::int64_t kChunkRows = 240;
/// Between widened rows; off the power of two, so that they do not fight for the same cache sets.
constexpr std::int64_t kWideStride = kBlockLength + 16;

/// What follows the sums of a piece. Pointers are to the piece's own first row and column.
struct LinearEnd {
  const void* bias = nullptr;  // [columns] of bias_dtype, or null
  DType bias_dtype = DType::f32;
  Activation activation = Activation::none;
  const float* residual = nullptr;  // [rows, out_stride], or null
  const float* factor = nullptr;    // the same
  float* out = nullptr;             // [rows, out_stride]
  std::int64_t out_stride = 0;
};

/// Pointers are to the chunk's own first row and column.
struct LinearChunk {
  const float* in = nullptr;  // [rows, k]
  std::int64_t rows = 0;      // <= kChunkRows
  std::int64_t k = 0;
  const void* w = nullptr;  // [columns, k] of w_dtype
  DType w_dtype = DType::f32;
  std::int64_t columns = 0;      // <= kChunkColumns
  const void* w_next = nullptr;  // what this thread may want next, or null
  LinearEnd end;
};

/// The end of the piece of the call's result that starts at `row`, `column`.
inline LinearEnd linear_end(const LinearCall& call, std::int64_t row, std::int64_t column) {
  const auto place = [&](const TensorView& view) {
    return reinterpret_cast<float*>(view.row(row)) + column;
  };
  LinearEnd end;
  end.out = place(call.out);
  end.out_stride = call.out.columns;
  if (call.bias.rows > 0) {
    end.bias = static_cast<const std::byte*>(call.bias.data) +
               static_cast<std::size_t>(column) * size_of(call.bias.dtype);
    end.bias_dtype = call.bias.dtype;
  }
  if (call.residual.rows > 0) end.residual = place(call.residual);
  if (call.factor.rows > 0) end.factor = place(call.factor);
  end.activation = call.activation;
  return end;
}

}  // namespace sluice::kernels
