// rows = cap tanh(rows / cap): logits that must not grow without bound. About 30 flop per element.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/soft_cap.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/soft_cap-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

void cap_elements(float* elements, std::int64_t count, float cap) { cap_all(elements, count, cap); }

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(cap_elements);

void soft_cap(const CpuContext& context, TensorView rows, float cap) {
  constexpr std::int64_t kCost = 16;  // of an element, in multiply-adds
  const auto run = HWY_DYNAMIC_DISPATCH(cap_elements);
  auto* const elements = static_cast<float*>(rows.data);
  context.for_pieces(
      rows.rows * rows.columns, kCost, kPieceElements,
      [&](std::int64_t first, std::int64_t count) { run(elements + first, count, cap); });
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
