// rows *= factor. Bound by memory.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/scale.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

void scale_elements(float* elements, std::int64_t count, float factor) {
  const Floats d;
  const Vector factors = hn::Set(d, factor);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, elements + i), factors), d, elements + i);
  }
  for (; i < count; ++i) elements[i] *= factor;
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(scale_elements);

void scale(const CpuContext& context, TensorView rows, float factor) {
  const auto run = HWY_DYNAMIC_DISPATCH(scale_elements);
  auto* const elements = static_cast<float*>(rows.data);
  context.for_pieces(
      rows.rows * rows.columns, 1, kPieceElements,
      [&](std::int64_t first, std::int64_t count) { run(elements + first, count, factor); });
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
