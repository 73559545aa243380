// The exact GELU, x * Phi(x), in vectors.
//
// Where x is negative Phi(x) is tiny, and 1 + erf(x) loses every digit; so the complementary error
// function is approximated itself (Numerical Recipes, erfcc: relative error below 1.2e-7
// everywhere), in double precision, whose exponential does not magnify the rounding of x^2.
#include <hwy/highway.h>

#if defined(SLUICE_KERNELS_CPU_GELU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_GELU_INL_H_
#undef SLUICE_KERNELS_CPU_GELU_INL_H_
#else
#define SLUICE_KERNELS_CPU_GELU_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_of_doubles(D d, V x) {
  constexpr double kInverseSqrt2 = 0.70710678118654752440;
  const V magnitude = hn::Abs(x);
  const V z = hn::Mul(magnitude, hn::Set(d, kInverseSqrt2));
  const V one = hn::Set(d, 1.0);
  const V t = hn::Div(one, hn::MulAdd(z, hn::Set(d, 0.5), one));
  V poly = hn::Set(d, 0.17087277);
  poly = hn::MulAdd(poly, t, hn::Set(d, -0.82215223));
  poly = hn::MulAdd(poly, t, hn::Set(d, 1.48851587));
  poly = hn::MulAdd(poly, t, hn::Set(d, -1.13520398));
  poly = hn::MulAdd(poly, t, hn::Set(d, 0.27886807));
  poly = hn::MulAdd(poly, t, hn::Set(d, -0.18628806));
  poly = hn::MulAdd(poly, t, hn::Set(d, 0.09678418));
  poly = hn::MulAdd(poly, t, hn::Set(d, 0.37409196));
  poly = hn::MulAdd(poly, t, hn::Set(d, 1.00002368));
  poly = hn::MulAdd(poly, t, hn::Set(d, -1.26551223));
  const V erfc = hn::Mul(t, hn::Exp(d, hn::Sub(poly, hn::Mul(z, z))));
  // x < 0: x/2 erfc(|z|).  x >= 0: x - x/2 erfc(|z|).
  const V half = hn::Mul(hn::Mul(hn::Set(d, 0.5), magnitude), erfc);
  const V gelu = hn::Sub(hn::Max(x, hn::Zero(d)), half);
  return hn::IfThenElse(hn::IsNaN(x), x, gelu);
}

HWY_INLINE Vector gelu(Floats d, Vector x) {
  const hn::Half<Floats> half;
  const hn::Rebind<double, hn::Half<Floats>> doubles;
  const auto low = gelu_of_doubles(doubles, hn::PromoteTo(doubles, hn::LowerHalf(half, x)));
  const auto high = gelu_of_doubles(doubles, hn::PromoteTo(doubles, hn::UpperHalf(half, x)));
  return hn::Combine(d, hn::DemoteTo(half, high), hn::DemoteTo(half, low));
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_GELU_INL_H_
