#include "tests/support/cuda_emulation/matmul.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "tests/support/cuda_emulation/memory.h"

namespace sluice::emulated {

namespace {

bool is_known(cudaDataType_t type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

std::size_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

float read(const void* data, cudaDataType_t type, std::int64_t at) {
  switch (type) {
    case CUDA_R_16F:
      return __half2float(static_cast<const __half*>(data)[at]);
    case CUDA_R_16BF:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]);
    default:
      return static_cast<const float*>(data)[at];
  }
}

void write(void* data, cudaDataType_t type, std::int64_t at, float value) {
  switch (type) {
    case CUDA_R_16F:
      static_cast<__half*>(data)[at] = __float2half_rn(value);
      break;
    case CUDA_R_16BF:
      static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(value);
      break;
    default:
      static_cast<float*>(data)[at] = value;
  }
}

/// The matrix as rows of `k` floats each, one for every row (or column) of the result.
std::vector<float> widened(const Matrix& matrix, const void* data, bool k_is_contiguous,
                           std::int64_t lines, std::int64_t k) {
  std::vector<float> wide(static_cast<std::size_t>(lines * k));
  for (std::int64_t line = 0; line < lines; ++line) {
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t at = k_is_contiguous ? line * matrix.stride + i : i * matrix.stride + line;
      wide[static_cast<std::size_t>(line * k + i)] = read(data, matrix.type, at);
    }
  }
  return wide;
}

float dot(const float* a, const float* b, std::int64_t k) {
  constexpr std::int64_t kLanes = 16;
  std::array<float, kLanes> sums = {};
  std::int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      sums[static_cast<std::size_t>(lane)] += a[i + lane] * b[i + lane];
    }
  }
  float sum = 0;
  for (const float part : sums) sum += part;
  for (; i < k; ++i) sum += a[i] * b[i];
  return sum;
}

std::string misplaced_matrix(const Matrix& matrix, const void* data, int device) {
  const std::int64_t elements = (matrix.columns - 1) * matrix.stride + matrix.rows;
  return misplaced(data, static_cast<std::size_t>(elements) * size_of(matrix.type), device);
}

}  // namespace

std::string Product::bad_shape() const {
  for (const Matrix* const matrix : {&a, &b, &c, &out}) {
    if (!is_known(matrix->type)) return "a dtype that is not emulated";
    if (matrix->rows < 1 || matrix->columns < 1) return "an empty matrix";
    if (matrix->stride < matrix->rows) return "a stride less than the rows";
  }
  if (a.type != b.type) return "a and b of different dtypes";
  if (c.type != out.type) return "c and d of different dtypes";
  if (a.type == CUDA_R_32F && out.type != CUDA_R_32F) return "f32 inputs, narrower results";
  if (out.type != CUDA_R_32F && out.type != a.type) return "results of another 16-bit dtype";
  if (bias != nullptr && bias_type != out.type) return "a bias of another dtype than the result";
  const std::int64_t m = transpose_a ? a.columns : a.rows;
  const std::int64_t k = transpose_a ? a.rows : a.columns;
  const std::int64_t n = transpose_b ? b.rows : b.columns;
  if (k != (transpose_b ? b.columns : b.rows)) return "a and b of different depth";
  if (out.rows != m || out.columns != n || c.rows != m || c.columns != n) {
    return "c or d not of the product's shape";
  }
  return {};
}

std::string Product::bad_memory(int device) const {
  std::string why = misplaced_matrix(a, a_data, device);
  if (why.empty()) why = misplaced_matrix(b, b_data, device);
  if (why.empty() && beta != 0) why = misplaced_matrix(c, c_data, device);
  if (why.empty()) why = misplaced_matrix(out, out_data, device);
  if (why.empty() && bias != nullptr) {
    why = misplaced(bias, static_cast<std::size_t>(out.rows) * size_of(bias_type), device);
  }
  return why;
}

void Product::run() const {
  const std::int64_t m = out.rows;
  const std::int64_t n = out.columns;
  const std::int64_t k = transpose_a ? a.rows : a.columns;
  const std::vector<float> left = widened(a, a_data, transpose_a, m, k);
  const std::vector<float> right = widened(b, b_data, !transpose_b, n, k);
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t i = 0; i < m; ++i) {
      float value = alpha * dot(left.data() + i * k, right.data() + j * k, k);
      if (beta != 0) value += beta * read(c_data, c.type, j * c.stride + i);
      if (bias != nullptr) value += read(bias, bias_type, i);
      if (relu) value = std::fmax(value, 0.0F);
      write(out_data, out.type, j * out.stride + i, value);
    }
  }
}

}  // namespace sluice::emulated
