// Normalisation by the root mean square, one row at a time: about 4 flop per element, bound by
// memory. The order of sums depends on the width alone. Rows may be as narrow as a head, so threads
// share them in runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/row_vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

void rms_norm_row(float* out, const float* in, std::int64_t width, const TensorView& weight,
                  float epsilon, float offset) {
  const Floats d;
  const std::int64_t whole = width / kLanes * kLanes;
  Vector squares = hn::Zero(d);
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    const Vector x = hn::LoadU(d, in + i);
    squares = hn::MulAdd(x, x, squares);
  }
  if (whole < width) {
    const Vector x = load_first(d, in + whole, width - whole);
    squares = hn::MulAdd(x, x, squares);
  }
  const float mean = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(width);
  const Vector scale = hn::Set(d, 1.0F / std::sqrt(mean + epsilon));
  const Vector offsets = hn::Set(d, offset);
  each_vector(out, in, width, [&](Vector x, std::int64_t i, std::int64_t count) HWY_ATTR {
    x = hn::Mul(x, scale);
    return weight.rows > 0 ? hn::Mul(x, hn::Add(offsets, load_any(d, weight, i, count))) : x;
  });
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(rms_norm_row);

void rms_norm(const CpuContext& context, TensorView out, TensorView in, TensorView weight,
              float epsilon, float offset) {
  constexpr std::int64_t kRun = 2048;  // elements
  const auto run = HWY_DYNAMIC_DISPATCH(rms_norm_row);
  const auto body = [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t row = first; row < first + count; ++row) {
      run(reinterpret_cast<float*>(out.row(row)), reinterpret_cast<const float*>(in.row(row)),
          in.columns, weight, epsilon, offset);
    }
  };
  context.for_pieces(in.rows, in.columns, std::max<std::int64_t>(1, kRun / in.columns), body);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
