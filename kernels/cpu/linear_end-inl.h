// The end of every matrix product: bias, activation, residual or factor, and the result's place.
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
#include "kernels/cpu/sigmoid-inl.h"
#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

HWY_INLINE Vector activate(Floats d, Vector value, Activation activation) {
  switch (activation) {
    case Activation::relu:  // not a maximum: that would turn NaN into 0
      return hn::IfThenZeroElse(hn::Lt(value, hn::Zero(d)), value);
    case Activation::gelu:
      return gelu(d, value);
    case Activation::gelu_tanh:
      return gelu_tanh(d, value);
    case Activation::quick_gelu:
      return quick_gelu(d, value);
    case Activation::silu:
      return silu(d, value);
    default:
      return value;
  }
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

/// Elements [n, n + rest) of a row, at most a vector.
HWY_INLINE Vector load_up_to(Floats d, const float* row, std::int64_t n, std::int64_t rest) {
  return rest >= kLanes ? hn::LoadU(d, row + n) : load_first(d, row + n, rest);
}

/// sums: [rows, sums_stride]. `sums` and `bias` (widened, or null) are padded, so that whole
/// vectors may be read of them.
HWY_INLINE void finish_rows(const LinearEnd& end, std::int64_t rows, std::int64_t columns,
                            const float* sums, std::int64_t sums_stride, const float* bias) {
  const Floats d;
  for (std::int64_t m = 0; m < rows; ++m) {
    const float* from = sums + m * sums_stride;
    const std::int64_t at = m * end.out_stride;
    float* to = end.out + at;
    const float* residual = end.residual != nullptr ? end.residual + at : nullptr;
    const float* factor = end.factor != nullptr ? end.factor + at : nullptr;
    for (std::int64_t n = 0; n < columns; n += kLanes) {
      const std::int64_t rest = columns - n;
      Vector value = hn::LoadU(d, from + n);
      if (bias != nullptr) value = hn::Add(value, hn::LoadU(d, bias + n));
      value = activate(d, value, end.activation);
      if (residual != nullptr) value = hn::Add(value, load_up_to(d, residual, n, rest));
      if (factor != nullptr) value = hn::Mul(value, load_up_to(d, factor, n, rest));
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
