// One piece of linear(): what a thread does without asking any other.
#pragma once

#include <cstdint>

#include "kernels/device/dtype.h"
#include "kernels/ops.h"

namespace sluice::kernels {

/// K is summed in blocks of this many elements, in order: part of the result's bits.
constexpr std::int64_t kBlockLength = 1024;
constexpr std::int64_t kChunkColumns = 64;
constexpr std::int64_t kChunkRows = 240;
/// Between widened rows; off the power of two, so that they do not fight for the same cache sets.
constexpr std::int64_t kWideStride = kBlockLength + 16;

/// Pointers are to the chunk's own first row and column.
struct LinearChunk {
  const float* in = nullptr;  // [rows, k]
  std::int64_t rows = 0;      // <= kChunkRows
  std::int64_t k = 0;
  const void* w = nullptr;  // [columns, k] of w_dtype
  DType w_dtype = DType::f32;
  std::int64_t columns = 0;    // <= kChunkColumns
  const void* bias = nullptr;  // [columns] of bias_dtype, or null
  DType bias_dtype = DType::f32;
  Activation activation = Activation::none;
  const float* residual = nullptr;  // [rows, out_stride], or null
  float* out = nullptr;             // [rows, out_stride]
  std::int64_t out_stride = 0;
};

}  // namespace sluice::kernels
