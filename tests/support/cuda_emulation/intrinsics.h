// The functions that CUDA C++ has everywhere, for kernels on the host: meetings of warps, atomics,
// bits. One thread of a grid runs at a time, so atomics are plain.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "tests/support/cuda_emulation/block.h"

inline void __syncthreads() { ::sluice::support::meet_block(); }
inline void __syncwarp(unsigned mask = ~0U) {
  ::sluice::support::meet_warp(mask, nullptr, 0, "__syncwarp");
}
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace sluice::support {

/// The value of lane `from`, or the caller's own where that is beyond its part of the warp.
template <class T>
T shuffled(unsigned mask, T value, int from, int first, int end, const char* what) {
  const Meeting& meeting = exchange(mask, value, what);
  return from < first || from >= end ? value : meeting.of<T>(static_cast<unsigned>(from));
}

/// Lanes of `mask` for which `predicate` holds.
inline unsigned ballot(unsigned mask, int predicate, const char* what) {
  const Meeting& meeting = exchange(mask, predicate, what);
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (meeting.has(lane) && meeting.of<int>(lane) != 0) lanes |= 1U << lane;
  }
  return lanes;
}

}  // namespace sluice::support

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = static_cast<int>(::sluice::support::lane_of_thread());
  const int first = lane / width * width;
  const int from =
      first + static_cast<int>(static_cast<unsigned>(source) % static_cast<unsigned>(width));
  return ::sluice::support::shuffled(mask, value, from, 0, 32, "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32) {
  const int lane = static_cast<int>(::sluice::support::lane_of_thread());
  return ::sluice::support::shuffled(mask, value, lane ^ distance, 0, (lane / width + 1) * width,
                                     "__shfl_xor_sync");
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int lane = static_cast<int>(::sluice::support::lane_of_thread());
  return ::sluice::support::shuffled(mask, value, lane + static_cast<int>(distance), 0,
                                     (lane / width + 1) * width, "__shfl_down_sync");
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int lane = static_cast<int>(::sluice::support::lane_of_thread());
  return ::sluice::support::shuffled(mask, value, lane - static_cast<int>(distance),
                                     lane / width * width, 32, "__shfl_up_sync");
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return ::sluice::support::ballot(mask, predicate, "__ballot_sync");
}
inline int __any_sync(unsigned mask, int predicate) {
  return ::sluice::support::ballot(mask, predicate, "__any_sync") != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return ::sluice::support::ballot(mask, predicate == 0 ? 1 : 0, "__all_sync") == 0 ? 1 : 0;
}

template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  const T old = *at;
  *at = old + value;
  return old;
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  const T old = *at;
  if (value > old) *at = value;
  return old;
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  const T old = *at;
  if (value < old) *at = value;
  return old;
}
template <class T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  const T old = *at;
  *at = old | value;
  return old;
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  const T old = *at;
  *at = value;
  return old;
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  const T old = *at;
  if (old == compare) *at = value;
  return old;
}

template <class T>
T __ldg(const T* from) {
  return *from;
}

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __popcll(unsigned long long bits) { return std::popcount(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __ffs(int bits) {
  return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1;
}
inline float __saturatef(float value) {
  return value > 0.0F ? std::fmin(value, 1.0F) : 0.0F;  // and of NaN 0
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(std::uint64_t{a} * b >> 32U);
}
/// Bytes of {low, high} chosen by the low three bits of each digit of `selector`; the fourth bit,
/// which repeats a byte's sign, is not known here.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{high} << 32U | low;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned from = selector >> 4 * i & 7U;
    result |= static_cast<unsigned>(bytes >> 8 * from & 0xFFU) << 8 * i;
  }
  return result;
}

// Faster on a GPU, and less exact there.
inline float rsqrtf(float value) { return 1.0F / std::sqrt(value); }
inline float __expf(float value) { return std::exp(value); }
inline float __logf(float value) { return std::log(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
