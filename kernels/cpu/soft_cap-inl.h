// The soft cap c tanh(x / c), in vectors: of logits, and of attention's scores.
#include <hwy/highway.h>

#if defined(SLUICE_KERNELS_CPU_SOFT_CAP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_SOFT_CAP_INL_H_
#undef SLUICE_KERNELS_CPU_SOFT_CAP_INL_H_
#else
#define SLUICE_KERNELS_CPU_SOFT_CAP_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// inverse: 1 / cap.
HWY_INLINE Vector capped(Floats d, Vector x, Vector cap, Vector inverse) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Mul(cap, hn::Tanh(d, hn::Mul(x, inverse))));
}

/// Of `count` floats, in place.
HWY_INLINE void cap_all(float* row, std::int64_t count, float cap) {
  const Floats d;
  const Vector caps = hn::Set(d, cap);
  const Vector inverse = hn::Set(d, 1.0F / cap);
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const std::int64_t rest = count - i;
    if (rest >= kLanes) {
      hn::StoreU(capped(d, hn::LoadU(d, row + i), caps, inverse), d, row + i);
    } else {
      store_first(d, capped(d, load_first(d, row + i, rest), caps, inverse), row + i, rest);
    }
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_SOFT_CAP_INL_H_
