// Rotary positions (kernels::Rotation): pairs of elements of every head, turned in place. Bound by
// memory.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

constexpr int kRotateWarps = 8;  // of a block

/// Grid: x tokens. A lane has a pair, its sine and cosine, in every kRotateWarps-th head of
/// `heads`.
template <class T>
__global__ void __launch_bounds__(kRotateWarps * 32)
    rotate_kernel(T* rows, kernels::Rotation rotation, const std::int32_t* positions, int heads) {
  const int pairs = rotation.width / 2;
  const int given = positions[blockIdx.x];
  const float position = static_cast<float>(given < 0 ? ~given : given);
  const float* const frequencies = rotation.frequencies + (given < 0 ? pairs : 0);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  T* const row = rows + std::int64_t{blockIdx.x} * heads * rotation.head_dim;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) % 32; i < pairs; i += 32) {
    float sine = 0;
    float cosine = 0;
    sincosf(position * frequencies[i], &sine, &cosine);
    sine *= rotation.factor;
    cosine *= rotation.factor;
    const int first = rotation.neighbours ? 2 * i : i;
    const int second = rotation.neighbours ? 2 * i + 1 : i + pairs;
#pragma unroll 1
    for (int head = warp; head < heads; head += kRotateWarps) {
      T* const of_head = row + std::int64_t{head} * rotation.head_dim;
      const float x = widen(of_head[first]);
      const float y = widen(of_head[second]);
      narrow(x * cosine - y * sine, of_head + first);
      narrow(y * cosine + x * sine, of_head + second);
    }
  }
}

}  // namespace sluice::cuda
