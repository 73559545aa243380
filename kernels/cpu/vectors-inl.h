// Vectors of floats out of weights of any type; compiled once per instruction set (Highway), hence
// the toggling include guard.
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#if defined(SLUICE_KERNELS_CPU_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_VECTORS_INL_H_
#undef SLUICE_KERNELS_CPU_VECTORS_INL_H_
#else
#define SLUICE_KERNELS_CPU_VECTORS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr std::int64_t kLanes = hn::MaxLanes(Floats());

HWY_INLINE Vector load(Floats d, const float* from) { return hn::LoadU(d, from); }

template <class T>
HWY_INLINE Vector load(Floats d, const T* from) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, Floats>(), from));
}

/// The first `count` < kLanes elements, then zeros; reads no further.
template <class T>
HWY_INLINE Vector load_first(Floats d, const T* from, std::int64_t count) {
  alignas(64) T lanes[kLanes] = {};
  std::memcpy(static_cast<void*>(lanes), from, static_cast<std::size_t>(count) * sizeof(T));
  return load(d, lanes);
}

/// Writes the first `count` < kLanes elements.
HWY_INLINE void store_first(Floats d, Vector vector, float* to, std::int64_t count) {
  alignas(64) float lanes[kLanes];
  hn::Store(vector, d, lanes);
  std::memcpy(to, lanes, static_cast<std::size_t>(count) * sizeof(float));
}

/// out[0, count) = from[0, count), widened.
template <class T>
HWY_INLINE void widen(Floats d, const T* from, std::int64_t count, float* out) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(load(d, from + i), d, out + i);
  if (i < count) store_first(d, load_first(d, from + i, count - i), out + i, count - i);
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_VECTORS_INL_H_
