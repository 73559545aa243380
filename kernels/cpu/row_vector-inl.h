// What norms of a row share: weights and biases of any float type, and the walk over the row.
#include <hwy/highway.h>

#include <cstdint>

#if defined(SLUICE_KERNELS_CPU_ROW_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_ROW_VECTOR_INL_H_
#undef SLUICE_KERNELS_CPU_ROW_VECTOR_INL_H_
#else
#define SLUICE_KERNELS_CPU_ROW_VECTOR_INL_H_
#endif

#include "kernels/cpu/vectors-inl.h"
#include "kernels/device/tensor_view.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

template <class T>
HWY_INLINE Vector load_at(Floats d, const void* data, std::int64_t i, std::int64_t count) {
  const T* const from = static_cast<const T*>(data) + i;
  return count >= kLanes ? load(d, from) : load_first(d, from, count);
}

/// Elements [i, i + count) of a vector of any type, at most kLanes.
HWY_INLINE Vector load_any(Floats d, const TensorView& vector, std::int64_t i, std::int64_t count) {
  switch (vector.dtype) {
    case DType::f16:
      return load_at<hwy::float16_t>(d, vector.data, i, count);
    case DType::bf16:
      return load_at<hwy::bfloat16_t>(d, vector.data, i, count);
    default:
      return load_at<float>(d, vector.data, i, count);
  }
}

/// out[i] = of(in[i], i, count) for a row of f32, a vector at a time; `count` elements of the last
/// one are the row's. out may be in.
template <class Of>
HWY_INLINE void each_vector(float* out, const float* in, std::int64_t width, const Of& of) {
  const Floats d;
  for (std::int64_t i = 0; i < width; i += kLanes) {
    const std::int64_t rest = width - i;
    if (rest >= kLanes) {
      hn::StoreU(of(hn::LoadU(d, in + i), i, rest), d, out + i);
    } else {
      store_first(d, of(load_first(d, in + i, rest), i, rest), out + i, rest);
    }
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ROW_VECTOR_INL_H_
