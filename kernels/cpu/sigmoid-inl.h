// Activations that are x times a sigmoid, in vectors: SiLU and the two cheap forms of GELU. The
// tanh form is one of them, because (1 + tanh(u)) / 2 is the sigmoid of 2 u; so no digit is lost
// where tanh(u) comes close to -1.
#include <hwy/highway.h>

#if defined(SLUICE_KERNELS_CPU_SIGMOID_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_SIGMOID_INL_H_
#undef SLUICE_KERNELS_CPU_SIGMOID_INL_H_
#else
#define SLUICE_KERNELS_CPU_SIGMOID_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// x sigmoid(z), for a z that has the sign of x. The exponential never overflows.
HWY_INLINE Vector times_sigmoid(Floats d, Vector x, Vector z) {
  const Vector one = hn::Set(d, 1.0F);
  const Vector e = hn::Exp(d, hn::Neg(hn::Abs(z)));
  const Vector above = hn::IfThenElse(hn::Lt(z, hn::Zero(d)), e, one);
  return hn::Mul(x, hn::Div(above, hn::Add(one, e)));
}

HWY_INLINE Vector silu(Floats d, Vector x) { return times_sigmoid(d, x, x); }

HWY_INLINE Vector quick_gelu(Floats d, Vector x) {
  return times_sigmoid(d, x, hn::Mul(x, hn::Set(d, 1.702F)));
}

HWY_INLINE Vector gelu_tanh(Floats d, Vector x) {
  constexpr float kLinear = 1.5957691216057308F;  // 2 sqrt(2 / pi)
  constexpr float kCubic = kLinear * 0.044715F;
  const Vector inner = hn::MulAdd(hn::Mul(x, x), hn::Set(d, kCubic), hn::Set(d, kLinear));
  return times_sigmoid(d, x, hn::Mul(x, inner));
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_SIGMOID_INL_H_
