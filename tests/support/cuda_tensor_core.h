// The instructions of kernels/cuda/tensor_core.cuh on the host, lane for lane, as PTX describes
// them; cuda_on_host.h brings it. A copy that was not waited for is NaN: shared memory gets its
// bytes no sooner than the thread that asked for them waits.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "tests/support/cuda_emulation/block.h"

namespace sluice::support {

/// Copies of one thread that are under way, by groups, the oldest first; the last one is open.
struct AsyncCopies {
  struct Copy {
    void* to;
    std::array<std::byte, 16> bytes;
  };
  std::vector<std::vector<Copy>> groups{1};

  /// Two copies under way to one place come in any order.
  void check_free(const void* to) {
    for (const std::vector<Copy>& group : groups) {
      for (const Copy& copy : group) {
        if (copy.to != to) continue;
        groups.assign(1, {});
        throw std::logic_error("a copy to where another one is under way");
      }
    }
  }
  void finish(std::size_t pending) {
    while (groups.size() > pending + 1) {
      for (const Copy& copy : groups.front()) std::memcpy(copy.to, copy.bytes.data(), 16);
      groups.erase(groups.begin());
    }
  }
};

inline AsyncCopies& async_copies() {
  static std::array<AsyncCopies, 1024> of_thread;  // of a block; its last wait leaves none
  return of_thread[cuda_place.thread.x];
}

inline void check_aligned(const void* address) {
  if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0) {
    throw std::logic_error("an address of 16 bytes is not a multiple of 16");
  }
}

using MatrixRow = std::array<std::uint16_t, 8>;

inline const Meeting& show_row(const void* row) {
  check_aligned(row);
  MatrixRow elements;
  std::memcpy(elements.data(), row, sizeof(elements));
  return exchange(~0U, elements, "ldmatrix");
}

/// Registers a and b of a lane.
struct Operands {
  std::array<std::uint32_t, 4> a;
  std::array<std::uint32_t, 2> b;
};

template <class T>
float half_of(std::uint32_t bits, unsigned index) {
  const auto half = static_cast<unsigned short>(bits >> 16 * index & 0xFFFFU);
  if constexpr (std::is_same_v<T, __half>) return __half2float(__ushort_as_half(half));
  return std::bit_cast<float>(std::uint32_t{half} << 16U);
}

/// (row, k) of A [16, 16] out of the registers of all lanes.
template <class T>
float a_at(const std::array<Operands, 32>& lanes, unsigned row, unsigned k) {
  const Operands& lane = lanes[row % 8 * 4 + k % 8 / 2];
  return half_of<T>(lane.a[row / 8 + 2 * (k / 8)], k % 2);
}
/// (k, column) of B [16, 8].
template <class T>
float b_at(const std::array<Operands, 32>& lanes, unsigned k, unsigned column) {
  return half_of<T>(lanes[column * 4 + k % 8 / 2].b[k / 8], k % 2);
}

}  // namespace sluice::support

namespace sluice::cuda {

constexpr bool kTensorCores = true;

template <class T>
void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const support::Operands own{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const support::Meeting& meeting = support::exchange(~0U, own, "mma");
  std::array<support::Operands, 32> lanes;
  for (unsigned lane = 0; lane < 32; ++lane) lanes[lane] = meeting.of<support::Operands>(lane);
  const unsigned lane = support::lane_of_thread();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8;
    const unsigned column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      c[i] += support::a_at<T>(lanes, row, k) * support::b_at<T>(lanes, k, column);
    }
  }
}

inline void load_matrix_x4(std::uint32_t (&to)[4], const void* row) {
  const support::Meeting& meeting = support::show_row(row);
  const unsigned lane = support::lane_of_thread();
  for (unsigned i = 0; i < 4; ++i) {
    const auto from = meeting.of<support::MatrixRow>(i * 8 + lane / 4);
    to[i] = from[lane % 4 * 2] | std::uint32_t{from[lane % 4 * 2 + 1]} << 16U;
  }
}

inline void load_matrix_x4_transposed(std::uint32_t (&to)[4], const void* row) {
  const support::Meeting& meeting = support::show_row(row);
  const unsigned lane = support::lane_of_thread();
  for (unsigned i = 0; i < 4; ++i) {
    const auto first = meeting.of<support::MatrixRow>(i * 8 + lane % 4 * 2);
    const auto second = meeting.of<support::MatrixRow>(i * 8 + lane % 4 * 2 + 1);
    to[i] = first[lane / 4] | std::uint32_t{second[lane / 4]} << 16U;
  }
}

inline void copy_async_16(void* shared, const void* global, bool there) {
  support::check_aligned(shared);
  support::check_aligned(global);
  support::async_copies().check_free(shared);
  support::AsyncCopies::Copy copy{shared, {}};
  if (there) std::memcpy(copy.bytes.data(), global, 16);
  support::async_copies().groups.back().push_back(copy);
  std::memset(shared, 0xFF, 16);
}
inline void commit_copies() { support::async_copies().groups.emplace_back(); }
template <int kPending>
void wait_copies() {
  support::async_copies().finish(kPending);
}

inline std::uint32_t and_or(std::uint32_t word, std::uint32_t mask, std::uint32_t bits) {
  return (word & mask) | bits;
}
inline float exp2_fast(float x) { return std::exp2(x); }
inline float tanh_fast(float x) { return std::tanh(x); }

}  // namespace sluice::cuda
