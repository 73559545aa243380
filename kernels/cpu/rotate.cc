// Rotary positions: pairs of elements of every head turn by an angle. Sines and cosines are made
// once per row, for all its heads. They come from the C library: Highway's sine is for angles below
// 39,000, and the first pair of a head turns by the position itself.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rotate.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// Pairs (i, i + count) for i < count.
void turn_halves(float* head, std::int64_t count, const float* cosines, const float* sines) {
  const Floats d;
  std::int64_t i = 0;
  const auto turn = [&](Vector c, Vector s, Vector& a, Vector& b) {
    const Vector old = a;
    a = hn::NegMulAdd(b, s, hn::Mul(a, c));
    b = hn::MulAdd(old, s, hn::Mul(b, c));
  };
  for (; i + kLanes <= count; i += kLanes) {
    Vector a = hn::LoadU(d, head + i);
    Vector b = hn::LoadU(d, head + count + i);
    turn(hn::LoadU(d, cosines + i), hn::LoadU(d, sines + i), a, b);
    hn::StoreU(a, d, head + i);
    hn::StoreU(b, d, head + count + i);
  }
  if (i == count) return;
  const std::int64_t rest = count - i;
  Vector a = load_first(d, head + i, rest);
  Vector b = load_first(d, head + count + i, rest);
  turn(load_first(d, cosines + i, rest), load_first(d, sines + i, rest), a, b);
  store_first(d, a, head + i, rest);
  store_first(d, b, head + count + i, rest);
}

/// Pairs (2i, 2i + 1) for i < count.
void turn_neighbours(float* head, std::int64_t count, const float* cosines, const float* sines) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float a = head[2 * i];
    const float b = head[2 * i + 1];
    head[2 * i] = a * cosines[i] - b * sines[i];
    head[2 * i + 1] = a * sines[i] + b * cosines[i];
  }
}

void turn_heads(float* row, std::int64_t heads, std::int64_t head_dim, std::int64_t pairs,
                bool neighbours, const float* cosines, const float* sines) {
  for (std::int64_t head = 0; head < heads; ++head, row += head_dim) {
    if (neighbours) {
      turn_neighbours(row, pairs, cosines, sines);
    } else {
      turn_halves(row, pairs, cosines, sines);
    }
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(turn_heads);

void rotate(const CpuContext& context, TensorView rows, const Rotation& rotation,
            const std::int32_t* positions) {
  constexpr std::int64_t kCostOfAngle = 32;  // in multiply-adds
  static_assert(kMaxHeadDim <= kScratchFloats);
  const std::int64_t pairs = rotation.width / 2;
  const std::int64_t heads = rows.columns / rotation.head_dim;
  const auto run = HWY_DYNAMIC_DISPATCH(turn_heads);
  const auto body = [&](std::int64_t row, float* scratch) {
    const bool second_list = positions[row] < 0;
    const auto position = static_cast<float>(second_list ? ~positions[row] : positions[row]);
    const float* const frequencies = rotation.frequencies + (second_list ? pairs : 0);
    float* const cosines = scratch;
    float* const sines = scratch + pairs;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float angle = position * frequencies[i];
      cosines[i] = std::cos(angle) * rotation.factor;
      sines[i] = std::sin(angle) * rotation.factor;
    }
    run(reinterpret_cast<float*>(rows.row(row)), heads, rotation.head_dim, pairs,
        rotation.neighbours, cosines, sines);
  };
  context.for_each(rows.rows, rows.rows * (pairs * kCostOfAngle + rows.columns), body);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
