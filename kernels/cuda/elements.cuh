// Elements of rows of any dtype as floats, on the device. Kernels in .cuh files use what CUDA C++
// has everywhere and launch nothing, so that tests can also run them on the host, thread by thread.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/device/dtype.h"
#include "kernels/ops.h"

namespace sluice::cuda {

template <DType>
struct Element;

template <>
struct Element<DType::f32> {
  using Type = float;
};
template <>
struct Element<DType::f16> {
  using Type = __half;
};
template <>
struct Element<DType::bf16> {
  using Type = __nv_bfloat16;
};

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(__half value) { return __half2float(value); }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

__device__ inline void narrow(float value, float* to) { *to = value; }
__device__ inline void narrow(float value, __half* to) { *to = __float2half_rn(value); }
__device__ inline void narrow(float value, __nv_bfloat16* to) { *to = __float2bfloat16_rn(value); }

/// Scale and minimum of a group of a quantised row (kernels/group_quantize.h).
struct GroupScale {
  __half scale;
  __half minimum;
};

template <DType kType>
__device__ inline GroupScale group_scale(const std::byte* row, std::int64_t columns,
                                         std::int64_t group) {
  constexpr std::int64_t kCodes = kType == DType::q8 ? kQuantGroup : kQuantGroup / 2;
  const std::int64_t groups = (columns + kQuantGroup - 1) / kQuantGroup;
  return reinterpret_cast<const GroupScale*>(row + groups * kCodes)[group];
}

/// Element `column` of a row of `columns` elements.
template <DType kType>
__device__ inline float element(const std::byte* row, std::int64_t columns, std::int64_t column) {
  if constexpr (kType == DType::q8 || kType == DType::q4) {
    const std::int64_t group = column / kQuantGroup;
    const std::int64_t at = column % kQuantGroup;
    const auto* const codes = reinterpret_cast<const std::uint8_t*>(row);
    unsigned code = 0;
    if constexpr (kType == DType::q8) {
      code = codes[column];
    } else {
      constexpr std::int64_t kHalf = kQuantGroup / 2;
      code = at < kHalf ? codes[group * kHalf + at] & 15U : codes[group * kHalf + at - kHalf] >> 4U;
    }
    const GroupScale scale = group_scale<kType>(row, columns, group);
    return __half2float(scale.minimum) + __half2float(scale.scale) * static_cast<float>(code);
  } else {
    return widen(reinterpret_cast<const typename Element<kType>::Type*>(row)[column]);
  }
}

/// A vector that may be absent (data == nullptr).
struct DeviceVector {
  const void* data;
  DType dtype;
};

/// The same, of a dtype known when it runs: for vectors, which are short.
__device__ inline float element_of(DType dtype, const void* row, std::int64_t column) {
  const auto* const bytes = static_cast<const std::byte*>(row);
  switch (dtype) {
    case DType::f16:
      return element<DType::f16>(bytes, 0, column);
    case DType::bf16:
      return element<DType::bf16>(bytes, 0, column);
    default:
      return element<DType::f32>(bytes, 0, column);
  }
}

/// Bytes of a row, on the device (row_bytes_of checks with assert, which kernels need not).
template <DType kType>
__device__ inline std::int64_t row_bytes(std::int64_t columns) {
  if constexpr (kType == DType::q8 || kType == DType::q4) {
    return (columns + kQuantGroup - 1) / kQuantGroup * (kType == DType::q8 ? 68 : 36);
  } else {
    return columns * static_cast<std::int64_t>(sizeof(typename Element<kType>::Type));
  }
}

/// The dynamic shared memory of the block; 16-byte aligned.
__device__ inline float* dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) float memory[];
  return memory;
#else
  return host_shared();  // of the test that runs kernels on the host
#endif
}

/// Sum, or maximum, over the 32 threads of a warp, in each of them.
__device__ inline float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, distance);
  }
  return value;
}
__device__ inline float warp_max(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, distance));
  }
  return value;
}
__device__ inline float warp_min(float value) { return -warp_max(-value); }

}  // namespace sluice::cuda
