// Products of a few rows with q8 or q4 weights of any shape and activations of any dtype: weights
// are read once for up to 8 rows of the input. One warp per two columns of the result. Of one group
// of 64 weights, with one scale and one minimum,
//   dot = scale * sum(code * x) + minimum * sum(x).
// Bound by memory for one row, by the plain cores beyond: tensor_product.cuh is for those.
#pragma once

#include "kernels/cuda/few_rows_product.cuh"

namespace sluice::cuda {

constexpr int kQuantizedWarps = 4;    // of a block
constexpr int kQuantizedColumns = 2;  // of a warp
/// Rows of the input that go through one reading of the weights, at most.
constexpr int kQuantizedRows = 8;

/// A lane's share of a group, 8 elements: neighbours (q8), or four and the four 32 further on (q4).
/// `share`: 0 ... 7.
template <DType kType>
__device__ inline std::int64_t share_column(std::int64_t group, unsigned share, int i) {
  const std::int64_t first = group * kQuantGroup;
  if constexpr (kType == DType::q8) return first + share * 8 + i;
  return first + share * 4 + (i < 4 ? i : i + 28);
}

template <DType kType>
__device__ inline void share_codes(const std::byte* row, std::int64_t group, unsigned share,
                                   float (&to)[kChunk]) {
  constexpr int kWords = kType == DType::q8 ? 2 : 1;
  unsigned word[kWords];
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    word[i] = load_aligned<unsigned>(row + (group * 8 + share) * (kWords * 4) + i * 4);
  }
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const unsigned byte = word[i / 4 % kWords] >> (i % 4 * 8) & 255U;
    if constexpr (kType == DType::q8) {
      to[i] = static_cast<float>(byte);
    } else {
      to[i] = static_cast<float>(i < 4 ? byte & 15U : byte >> 4U);
    }
  }
}

/// Four inputs, aligned to their size.
__device__ inline void read_four(DType dtype, const void* in, std::int64_t first, float* to) {
  if (dtype == DType::f32) {
    const auto four = load_aligned<float4>(static_cast<const float*>(in) + first);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    return;
  }
  const auto words = load_aligned<uint2>(static_cast<const __half*>(in) + first);
  const float2 low =
      dtype == DType::f16 ? widen_word<__half>(words.x) : widen_word<__nv_bfloat16>(words.x);
  const float2 high =
      dtype == DType::f16 ? widen_word<__half>(words.y) : widen_word<__nv_bfloat16>(words.y);
  to[0] = low.x, to[1] = low.y, to[2] = high.x, to[3] = high.y;
}

/// Two rows of weights (the same one twice, where there is no other), and some of the input.
template <DType kType>
struct QuantizedColumns {
  const std::byte* row[kQuantizedColumns];
  const void* in;
  DType in_dtype;
  int rows;
  std::int64_t columns;

  /// The last row stands for those that are not there: a branch for each would have the compiler
  /// make a kernel for every number of rows.
  __device__ std::int64_t in_row(int m) const { return (m < rows ? m : rows - 1) * columns; }

  __device__ void add_by_shares(float (&sum)[kQuantizedColumns][kQuantizedRows]) const {
    const unsigned share = threadIdx.x % 8;
#pragma unroll 1
    for (std::int64_t group = threadIdx.x % 32 / 8; group * kQuantGroup < columns; group += 4) {
      float codes[kQuantizedColumns][kChunk];
      float scale[kQuantizedColumns];
      float minimum[kQuantizedColumns];
#pragma unroll
      for (int n = 0; n < kQuantizedColumns; ++n) {
        share_codes<kType>(row[n], group, share, codes[n]);
        const GroupScale packed = group_scale<kType>(row[n], columns, group);
        scale[n] = __half2float(packed.scale);
        minimum[n] = __half2float(packed.minimum);
      }
#pragma unroll
      for (int m = 0; m < kQuantizedRows; ++m) {
        const std::int64_t row_of_in = in_row(m);
        float x[kChunk];
        read_four(in_dtype, in, row_of_in + share_column<kType>(group, share, 0), x);
        read_four(in_dtype, in, row_of_in + share_column<kType>(group, share, 4), x + 4);
        float total = 0;
#pragma unroll
        for (const float value : x) total += value;
#pragma unroll
        for (int n = 0; n < kQuantizedColumns; ++n) {
          float dot = 0;
#pragma unroll
          for (int i = 0; i < kChunk; ++i) dot += codes[n][i] * x[i];
          sum[n][m] += scale[n] * dot + minimum[n] * total;
        }
      }
    }
  }

  __device__ void add_by_elements(float (&sum)[kQuantizedColumns][kQuantizedRows]) const {
#pragma unroll 1
    for (std::int64_t c = threadIdx.x % 32; c < columns; c += 32) {
      const float w[kQuantizedColumns] = {element<kType>(row[0], columns, c),
                                          element<kType>(row[1], columns, c)};
#pragma unroll
      for (int m = 0; m < kQuantizedRows; ++m) {
        const float x = element_of(in_dtype, in, in_row(m) + c);
#pragma unroll
        for (int n = 0; n < kQuantizedColumns; ++n) sum[n][m] += w[n] * x;
      }
    }
  }
};

/// out[m, n] = end(in[m, :] . weight[n, :]) for m < rows <= 8, n < weight_rows. in_shares:
/// `columns` is a multiple of 64, rows of in can be read by fours, those of weight by 4 bytes.
template <DType kType>
__global__ void __launch_bounds__(kQuantizedWarps * 32)
    quantized_product_kernel(ProductMatrix out, const void* in, DType in_dtype,
                             const std::byte* weight, int rows, std::int64_t columns,
                             std::int64_t weight_rows, ProductEnd end, bool in_shares) {
  const std::int64_t first =
      (std::int64_t{blockIdx.x} * kQuantizedWarps + threadIdx.x / 32) * kQuantizedColumns;
  if (first >= weight_rows) return;
  const std::byte* const row = weight + first * row_bytes<kType>(columns);
  const bool two = first + 1 < weight_rows;
  const QuantizedColumns<kType> work{
      {row, two ? row + row_bytes<kType>(columns) : row}, in, in_dtype, rows, columns};
  float sum[kQuantizedColumns][kQuantizedRows] = {};
  if (in_shares) {
    work.add_by_shares(sum);
  } else {
    work.add_by_elements(sum);
  }
  // One place that stores, and one lane for each result.
  const auto lane = static_cast<int>(threadIdx.x % 32);
  float own = 0;
#pragma unroll
  for (int i = 0; i < kQuantizedColumns * kQuantizedRows; ++i) {
    const float total = warp_sum(sum[i / kQuantizedRows][i % kQuantizedRows]);
    own = lane == i ? total : own;
  }
  const int m = lane % kQuantizedRows;
  const std::int64_t n = first + lane / kQuantizedRows;
  if (m < rows && n < weight_rows && n < first + kQuantizedColumns) {
    out.store(m, n, end(m, n, own));
  }
}

}  // namespace sluice::cuda
