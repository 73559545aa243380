// The end of every matrix product: bias, activation, residual, and the result's place.
#include <hwy/highway.h>

#include <cstdint>

#if defined(SLUICE_KERNELS_CPU_LINEAR_END_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_LINEAR_END_INL_H_
#undef SLUICE_KERNELS_CPU_LINEAR_END_INL_H_
#else
#define SLUICE_KERNELS_CPU_LINEAR_END_INL_H_
#endif

#include "kernels/cpu/gelu-inl.h"
#include "kernels/cpu/linear_chunk.h"
#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

HWY_INLINE Vector activate(Floats d, Vector value, Activation activation) {
  // Not a maximum: that would turn NaN into 0.
  if (activation == Activation::relu) {
    return hn::IfThenZeroElse(hn::Lt(value, hn::Zero(d)), value);
  }
  if (activation == Activation::gelu) return gelu(d, value);
  return value;
}

/// The bias as floats in `scratch`, which has room for `columns` and a vector more; null without.
HWY_INLINE const float* widened_bias(const LinearEnd& end, std::int64_t columns, float* scratch) {
  const Floats d;
  if (end.bias == nullptr) return nullptr;
  switch (end.bias_dtype) {
    case DType::f16:
      widen(d, static_cast<const hwy::float16_t*>(end.bias), columns, scratch);
      break;
    case DType::bf16:
      widen(d, static_cast<const hwy::bfloat16_t*>(end.bias), columns, scratch);
      break;
    default:
      widen(d, static_cast<const float*>(end.bias), columns, scratch);
  }
  return scratch;
}

/// sums: [rows, sums_stride]. `sums` and `bias` (widened, or null) are padded, so that whole
/// vectors may be read of them.
HWY_INLINE void finish_rows(const LinearEnd& end, std::int64_t rows, std::int64_t columns,
                            const float* sums, std::int64_t sums_stride, const float* bias) {
  const Floats d;
  for (std::int64_t m = 0; m < rows; ++m) {
    const float* from = sums + m * sums_stride;
    float* to = end.out + m * end.out_stride;
    const float* residual = end.residual != nullptr ? end.residual + m * end.out_stride : nullptr;
    for (std::int64_t n = 0; n < columns; n += kLanes) {
      const std::int64_t rest = columns - n;
      Vector value = hn::LoadU(d, from + n);
      if (bias != nullptr) value = hn::Add(value, hn::LoadU(d, bias + n));
      value = activate(d, value, end.activation);
      if (residual != nullptr) {
        value = hn::Add(
            value, rest >= kLanes ? hn::LoadU(d, residual + n) : load_first(d, residual + n, rest));
      }
      if (rest >= kLanes) {
        hn::StoreU(value, d, to + n);
      } else {
        store_first(d, value, to + n, rest);
      }
    }
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_LINEAR_END_INL_H_
