// New keys and values into their pages, narrowed or quantised to the cache's dtype. Eight elements
// a lane, groups of kLanes lanes a vector.
#pragma once

#include "kernels/cuda/kv_rows.cuh"

namespace sluice::cuda {

constexpr int kAppendThreads = 128;
constexpr int kAppendTokens = 16;  // per block
constexpr int kAppendHeads = 4;    // per block

struct AppendCall {
  kernels::KvPages cache;
  kernels::KvBatch batch;
  PageDivider divider;
  const void* keys;  // [.., heads x head_dim]
  const void* values;
  DType keys_dtype;
  DType values_dtype;
  bool wide;  // keys, values and cache are aligned, and head_dim is, for loads and stores of quads
};

/// Four elements from `at` of a row of f32, f16 or bf16, aligned as a whole.
__device__ inline void load_quad(DType dtype, const void* row, std::int64_t at, float* to) {
  if (dtype == DType::f32) {
    const float4 four = *reinterpret_cast<const float4*>(static_cast<const float*>(row) + at);
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
    return;
  }
  const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const std::uint16_t*>(row) + at);
  const bool half = dtype == DType::f16;
  const float2 low = half ? widen_pair(bits.x, __half{}) : widen_pair(bits.x, __nv_bfloat16{});
  const float2 high = half ? widen_pair(bits.y, __half{}) : widen_pair(bits.y, __nv_bfloat16{});
  to[0] = low.x;
  to[1] = low.y;
  to[2] = high.x;
  to[3] = high.y;
}

template <class T>
__device__ inline void store_quad(const float* from, T* to) {
  if constexpr (std::is_same_v<T, float>) {
    *reinterpret_cast<float4*>(to) = {from[0], from[1], from[2], from[3]};
  } else {
    *reinterpret_cast<uint2*>(to) = {narrow_word<T>(from[0], from[1]),
                                     narrow_word<T>(from[2], from[3])};
  }
}

/// The largest of the eight lanes of a group, in each.
__device__ inline float group_max(float value) {
  for (int distance = 4; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, distance));
  }
  return value;
}

/// A group of 64 elements, by eight lanes, as kernels::quantize_rows packs it: the same codes. What
/// cannot be quantised (beyond f16, or NaN) makes the group NaN. `has`: elements of each quad, from
/// 0 to 4. Every lane of the warp calls; `row` is null in those that have nothing.
template <DType kType>
__device__ inline void pack_group(const float (&value)[8], const int (&has)[2], int lane,
                                  int columns, std::byte* row) {
  constexpr float kLevels = kType == DType::q8 ? 255.0F : 15.0F;
  float low = INFINITY;
  float high = -INFINITY;
  float bad = 0;
  for (int i = 0; i < 8; ++i) {
    if (i % 4 >= has[i / 4]) continue;
    low = fminf(low, value[i]);
    high = fmaxf(high, value[i]);
    if (!(fabsf(value[i]) <= 65504.0F)) bad = 1;
  }
  low = -group_max(-low);
  high = group_max(high);
  bad = group_max(bad);
  if (row == nullptr) return;
  GroupScale packed;
  packed.minimum = __float2half_rn(low + 0.0F);  // a minimum of -0 is 0
  const float minimum = __half2float(packed.minimum);
  packed.scale = __float2half_rn(fmaxf(high - minimum, 0.0F) / kLevels);
  if (__half2float(packed.scale) == 0.0F && high > low) packed.scale = __ushort_as_half(1);
  if (bad != 0) packed.minimum = packed.scale = __ushort_as_half(0x7E00);
  const float step = __half2float(packed.scale);
  const float inverse = step > 0.0F ? 1.0F / step : 0.0F;
  unsigned words[2] = {};
  for (int i = 0; i < 8; ++i) {
    if (i % 4 >= has[i / 4]) continue;
    const float rounded = rintf((value[i] - minimum) * inverse);
    words[i / 4] |= static_cast<unsigned>(fminf(fmaxf(rounded, 0.0F), kLevels)) << (8 * (i % 4));
  }
  auto* const codes = reinterpret_cast<unsigned*>(row);
  const int group = lane / 8;
  if constexpr (kType == DType::q8) {
    codes[lane * 2] = words[0];
    codes[lane * 2 + 1] = words[1];
  } else {
    codes[lane] = words[0] | words[1] << 4U;
  }
  if (lane % 8 == 0) {
    constexpr int kCodes = kType == DType::q8 ? 64 : 32;
    const int groups = (columns + 63) / 64;
    reinterpret_cast<GroupScale*>(row + groups * kCodes)[group] = packed;
  }
}

/// A lane's eight elements of the vector at `from` + `at`, into the vector at `row`; null: none.
template <DType kType>
__device__ inline void append_eight(const AppendCall& call, DType dtype, const void* from,
                                    std::int64_t at, int lane, std::byte* row) {
  const int dim = call.cache.head_dim;
  float value[8] = {};
  int has[2];
  for (int quad = 0; quad < 2; ++quad) {
    const int first = first_element<kType>(lane) + quad * kSecondQuad<kType>;
    has[quad] = row == nullptr ? 0 : min(max(dim - first, 0), 4);
    if (call.wide && has[quad] > 0) {
      load_quad(dtype, from, at + first, value + 4 * quad);
    } else {
      for (int i = 0; i < has[quad]; ++i) {
        value[4 * quad + i] = element_of(dtype, from, at + first + i);
      }
    }
  }
  if constexpr (kPacked<kType>) {
    const bool in_row = lane < (dim + 63) / 64 * 8;
    pack_group<kType>(value, has, lane, dim, in_row ? row : nullptr);
  } else {
    auto* const to = reinterpret_cast<typename Element<kType>::Type*>(row);
    for (int quad = 0; quad < 2; ++quad) {
      const int first = lane * 8 + quad * 4;
      if (call.wide && has[quad] > 0) {
        store_quad(value + 4 * quad, to + first);
      } else {
        for (int i = 0; i < has[quad]; ++i) narrow(value[4 * quad + i], to + first + i);
      }
    }
  }
}

/// Grid: x most_tiles() of kAppendTokens, y heads in pieces of kAppendHeads. `lanes`: of a vector,
/// 8, 16 or 32; a longer one is taken in turns.
template <DType kType>
__global__ void append_kv_kernel(AppendCall call, int lanes) {
  const SequenceTile found = find_tile(call.batch, static_cast<int>(blockIdx.x), kAppendTokens, 1);
  const int s = found.sequence;
  if (s == call.batch.sequences) return;
  const int heads = call.cache.heads;
  const int dim = call.cache.head_dim;
  const int first = found.tile * kAppendTokens;
  const int tokens = min(kAppendTokens, call.batch.new_tokens[s] - first);
  const int position = call.batch.context[s] - call.batch.new_tokens[s] + first;
  const int first_head = static_cast<int>(blockIdx.y) * kAppendHeads;
  const std::int32_t* const pages = call.batch.pages + std::int64_t{s} * call.batch.max_pages;
  const int thread = static_cast<int>(threadIdx.x);
  const int vectors = tokens * kAppendHeads * 2;
  for (int base = 0; base < vectors; base += kAppendThreads / lanes) {
    const int vector = base + thread / lanes;
    const bool values = vector % 2 != 0;
    const int head = first_head + vector / 2 % kAppendHeads;
    const int token = vector / (2 * kAppendHeads);
    std::byte* row = nullptr;
    if (vector < vectors && head < heads) {
      row = vector_at(call.cache, pages, call.divider, position + token, head, values,
                      row_bytes<kType>(dim));
    }
    const std::int64_t at =
        ((std::int64_t{call.batch.first_row[s]} + first + token) * heads + head) * dim;
    for (int lane = thread % lanes; first_element<kType>(lane - thread % lanes) < dim;
         lane += lanes) {
      append_eight<kType>(call, values ? call.values_dtype : call.keys_dtype,
                          values ? call.values : call.keys, at, lane, row);
    }
  }
}

}  // namespace sluice::cuda
