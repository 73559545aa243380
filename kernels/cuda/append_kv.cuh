// New keys and values into their pages, narrowed or quantised to the cache's dtype. Bound by
// memory; each element is written once.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

constexpr int kAppendThreads = 128;
constexpr int kAppendTokens = 16;  // per block

/// Where head `head` of the token at `position` lies; `values`: its value, else its key.
template <DType kType>
__device__ inline std::byte* vector_at(const kernels::KvPages& cache, const std::int32_t* pages,
                                       std::int64_t position, int head, bool values) {
  const std::int64_t bytes = row_bytes<kType>(cache.head_dim);
  const std::int64_t page = pages[position / cache.page_tokens];
  const std::int64_t half = values ? cache.heads : 0;
  return static_cast<std::byte*>(cache.base) + page * cache.page_stride_bytes +
         ((half + head) * cache.page_tokens + position % cache.page_tokens) * bytes;
}

/// One group by one warp, as kernels::quantize_rows packs it: the same codes.
template <DType kType>
__device__ inline void pack_group(const float* from, std::int64_t columns, std::int64_t group,
                                  std::byte* row) {
  constexpr float kLevels = kType == DType::q8 ? 255.0F : 15.0F;
  const unsigned lane = threadIdx.x % 32;
  const std::int64_t first = group * kQuantGroup + lane;
  const bool has[2] = {first < columns, first + 32 < columns};
  const float value[2] = {has[0] ? from[first] : 0.0F, has[1] ? from[first + 32] : 0.0F};
  const float low = warp_min(fminf(has[0] ? value[0] : INFINITY, has[1] ? value[1] : INFINITY));
  const float high = warp_max(fmaxf(has[0] ? value[0] : -INFINITY, has[1] ? value[1] : -INFINITY));
  GroupScale packed;
  packed.minimum = __float2half_rn(low);
  const float minimum = __half2float(packed.minimum);
  packed.scale = __float2half_rn(fmaxf(high - minimum, 0.0F) / kLevels);
  if (__half2float(packed.scale) == 0.0F && high > low) packed.scale = __ushort_as_half(1);
  const float step = __half2float(packed.scale);
  const float inverse = step > 0.0F ? 1.0F / step : 0.0F;
  unsigned code[2];
  for (int i = 0; i < 2; ++i) {
    const float rounded = rintf((value[i] - minimum) * inverse);
    code[i] = has[i] ? static_cast<unsigned>(fminf(fmaxf(rounded, 0.0F), kLevels)) : 0U;
  }
  auto* const codes = reinterpret_cast<std::uint8_t*>(row);
  if constexpr (kType == DType::q8) {
    codes[group * 64 + lane] = static_cast<std::uint8_t>(code[0]);
    codes[group * 64 + 32 + lane] = static_cast<std::uint8_t>(code[1]);
  } else {
    codes[group * 32 + lane] = static_cast<std::uint8_t>(code[0] | (code[1] << 4U));
  }
  if (lane == 0) {
    constexpr std::int64_t kCodes = kType == DType::q8 ? 64 : 32;
    const std::int64_t groups = (columns + kQuantGroup - 1) / kQuantGroup;
    reinterpret_cast<GroupScale*>(row + groups * kCodes)[group] = packed;
  }
}

template <DType kType>
__device__ inline void store_vector(const float* from, std::int64_t columns, std::byte* row) {
  if constexpr (kType == DType::q8 || kType == DType::q4) {
    const std::int64_t groups = (columns + kQuantGroup - 1) / kQuantGroup;
    const unsigned warps = blockDim.x / 32;
    for (std::int64_t group = threadIdx.x / 32; group < groups; group += warps) {
      pack_group<kType>(from, columns, group, row);
    }
  } else {
    auto* const to = reinterpret_cast<typename Element<kType>::Type*>(row);
    for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) narrow(from[c], to + c);
  }
}

/// Grid: x sequences, y heads, z tiles of kAppendTokens new tokens (those beyond do nothing).
template <DType kType>
__global__ void append_kv_kernel(kernels::KvPages cache, kernels::KvBatch batch, const float* keys,
                                 const float* values) {
  const int s = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const std::int32_t* const pages = batch.pages + std::int64_t{s} * batch.max_pages;
  const std::int64_t width = std::int64_t{cache.heads} * cache.head_dim;
  const int first = static_cast<int>(blockIdx.z) * kAppendTokens;
  const int end = min(first + kAppendTokens, batch.new_tokens[s]);
  for (int token = first; token < end; ++token) {
    const std::int64_t position = batch.context[s] - batch.new_tokens[s] + token;
    const std::int64_t at =
        (batch.first_row[s] + token) * width + std::int64_t{head} * cache.head_dim;
    store_vector<kType>(keys + at, cache.head_dim,
                        vector_at<kType>(cache, pages, position, head, false));
    store_vector<kType>(values + at, cache.head_dim,
                        vector_at<kType>(cache, pages, position, head, true));
  }
}

}  // namespace sluice::cuda
