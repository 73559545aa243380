// Products of a few rows with q8 or q4 weights, for decode: weights are read once, packed, and
// expanded in registers. One warp per column of the result; bound by memory.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

/// Rows of the input that go through one reading of the weights.
constexpr int kProductRows = 8;
constexpr int kProductWarps = 8;  // per block

/// The sum over one lane's share of a group: codes at `at` and beside it.
template <DType kType>
__device__ inline void add_group(const std::byte* row, std::int64_t columns, std::int64_t group,
                                 unsigned lane, const float* in, std::int64_t in_stride, int rows,
                                 float (&sum)[kProductRows]) {
  const GroupScale packed = group_scale<kType>(row, columns, group);
  const float scale = __half2float(packed.scale);
  const float minimum = __half2float(packed.minimum);
  const auto* const codes = reinterpret_cast<const std::uint8_t*>(row);
  // Two elements a lane: a byte of q4 holds both, of q8 they are 32 bytes apart.
  float low = 0;
  float high = 0;
  if constexpr (kType == DType::q4) {
    const unsigned both = codes[group * 32 + lane];
    low = minimum + scale * static_cast<float>(both & 15U);
    high = minimum + scale * static_cast<float>(both >> 4U);
  } else {
    low = minimum + scale * static_cast<float>(codes[group * 64 + lane]);
    high = minimum + scale * static_cast<float>(codes[group * 64 + 32 + lane]);
  }
  const std::int64_t first = group * kQuantGroup + lane;
  const bool has_low = first < columns;
  const bool has_high = first + 32 < columns;
  for (int m = 0; m < rows; ++m) {
    const float* const x = in + m * in_stride;
    if (has_low) sum[m] += low * x[first];
    if (has_high) sum[m] += high * x[first + 32];
  }
}

/// out[m, n] (+)= in[m, :] . weight[n, :] for m < rows <= kProductRows, n <
/// weight_rows.
template <DType kType>
__global__ void quantized_product_kernel(float* out, std::int64_t out_stride, const float* in,
                                         std::int64_t columns, int rows, const std::byte* weight,
                                         std::int64_t weight_rows, bool add) {
  const unsigned lane = threadIdx.x % 32;
  const std::int64_t n = std::int64_t{blockIdx.x} * kProductWarps + threadIdx.x / 32;
  if (n >= weight_rows) return;
  const std::byte* const row = weight + n * row_bytes<kType>(columns);
  const std::int64_t groups = (columns + kQuantGroup - 1) / kQuantGroup;
  float sum[kProductRows] = {};
  for (std::int64_t group = 0; group < groups; ++group) {
    add_group<kType>(row, columns, group, lane, in, columns, rows, sum);
  }
  for (int m = 0; m < rows; ++m) {
    const float total = warp_sum(sum[m]);
    float* const to = out + m * out_stride + n;
    if (lane == 0) *to = add ? *to + total : total;
  }
}

}  // namespace sluice::cuda
