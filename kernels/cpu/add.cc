// out += in. Bound by memory.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/add.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

void add_elements(float* out, const float* in, std::int64_t count) {
  const Floats d;
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, out + i), hn::LoadU(d, in + i)), d, out + i);
  }
  for (; i < count; ++i) out[i] += in[i];
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(add_elements);

void add(const CpuContext& context, TensorView out, TensorView in) {
  const auto run = HWY_DYNAMIC_DISPATCH(add_elements);
  auto* const to = static_cast<float*>(out.data);
  const auto* const from = static_cast<const float*>(in.data);
  context.for_pieces(
      out.rows * out.columns, 1, kPieceElements,
      [&](std::int64_t first, std::int64_t count) { run(to + first, from + first, count); });
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
