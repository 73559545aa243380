// The exponentials of a softmax, whose arguments are at most zero, in vectors.
#include <hwy/highway.h>

#include <cstdint>

#if defined(SLUICE_KERNELS_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_EXP_INL_H_
#undef SLUICE_KERNELS_CPU_EXP_INL_H_
#else
#define SLUICE_KERNELS_CPU_EXP_INL_H_
#endif

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// exp(x) for x <= 0, or NaN where x is none; 0 below -87, where a normal float has no value.
///
/// x = n ln 2 + r, with |r| <= ln 2 / 2 and the polynomial of Highway's Exp() for r. Half as many
/// instructions as that, because no power of two here needs two factors.
HWY_INLINE Vector exp_down(Floats d, Vector x) {
  const hn::RebindToUnsigned<Floats> bits;
  // Adding it leaves n + 127 in the low bits of the sum: the exponent of 2^n.
  const Vector shift = hn::Set(d, 12582912.0F + 127.0F);
  const Vector shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341F), shift);
  const Vector n = hn::Sub(shifted, shift);
  Vector r = hn::MulAdd(n, hn::Set(d, -0.693145751953125F), x);
  r = hn::MulAdd(n, hn::Set(d, -1.428606765330187045e-6F), r);
  Vector p = hn::Set(d, 0.000198527617612853646278381F);
  p = hn::MulAdd(p, r, hn::Set(d, 0.00139304355252534151077271F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.00833336077630519866943359F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.0416664853692054748535156F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.166666671633720397949219F));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F));
  const Vector power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(bits, shifted)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0F)), hn::Mul(p, power));
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_EXP_INL_H_
