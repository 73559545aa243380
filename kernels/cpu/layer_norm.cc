// Layer normalisation in two passes (mean, then variance), one row at a time: about 5 flop per
// element, bound by memory. The order of sums depends on the width alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layer_norm.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>

#include "kernels/cpu/row_vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

void norm_row(float* out, const float* in, std::int64_t width, const TensorView& weight,
              const TensorView& bias, float epsilon) {
  const Floats d;
  const std::int64_t whole = width / kLanes * kLanes;
  Vector sums = hn::Zero(d);
  for (std::int64_t i = 0; i < whole; i += kLanes) sums = hn::Add(sums, hn::LoadU(d, in + i));
  if (whole < width) sums = hn::Add(sums, load_first(d, in + whole, width - whole));
  const float mean = hn::GetLane(hn::SumOfLanes(d, sums)) / static_cast<float>(width);
  const Vector means = hn::Set(d, mean);

  Vector squares = hn::Zero(d);
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    const Vector x = hn::Sub(hn::LoadU(d, in + i), means);
    squares = hn::MulAdd(x, x, squares);
  }
  if (whole < width) {
    const auto inside = hn::FirstN(d, static_cast<std::size_t>(width - whole));
    const Vector x = hn::Sub(load_first(d, in + whole, width - whole), means);
    squares = hn::Add(squares, hn::IfThenElseZero(inside, hn::Mul(x, x)));
  }
  const float variance = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(width);
  const Vector scale = hn::Set(d, 1.0F / std::sqrt(variance + epsilon));

  each_vector(out, in, width, [&](Vector x, std::int64_t i, std::int64_t count) HWY_ATTR {
    x = hn::Mul(hn::Sub(x, means), scale);
    if (weight.rows > 0) x = hn::Mul(x, load_any(d, weight, i, count));
    if (bias.rows > 0) x = hn::Add(x, load_any(d, bias, i, count));
    return x;
  });
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(norm_row);

void layer_norm(const CpuContext& context, TensorView out, TensorView in, TensorView weight,
                TensorView bias, float epsilon) {
  const auto run = HWY_DYNAMIC_DISPATCH(norm_row);
  const auto body = [&](std::int64_t row, float*) {
    run(reinterpret_cast<float*>(out.row(row)), reinterpret_cast<const float*>(in.row(row)),
        in.columns, weight, bias, epsilon);
  };
  context.for_each(in.rows, in.rows * in.columns, body);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
