#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize_row.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/narrow-inl.h"
#include "kernels/cpu/quantize_row.h"
#include "kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

template <class T>
bool quantize(const T* from, std::int64_t columns, DType to, std::uint8_t* codes) {
  const Floats d;
  const std::int64_t groups = (columns + kQuantGroup - 1) / kQuantGroup;
  const std::int64_t code_bytes = to == DType::q8 ? kQuantGroup : kQuantGroup / 2;
  auto* const factors = reinterpret_cast<std::byte*>(codes + groups * code_bytes);
  float values[kQuantGroup] = {};
  bool sound = true;
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::int64_t first = group * kQuantGroup;
    const std::int64_t count = std::min(kQuantGroup, columns - first);
    widen(d, from + first, count, values);
    quantize_group(values, count, to, codes + group * code_bytes, factors + group * 4);
    std::uint16_t scale = 0;
    std::memcpy(&scale, factors + group * 4, sizeof(scale));
    sound = sound && (scale & 0x7FFFU) <= 0x7C00U;  // not NaN
  }
  return sound;
}

bool quantize_any(DType from, const void* source, std::int64_t columns, DType to, void* target) {
  auto* const codes = static_cast<std::uint8_t*>(target);
  switch (from) {
    case DType::f16:
      return quantize(static_cast<const hwy::float16_t*>(source), columns, to, codes);
    case DType::bf16:
      return quantize(static_cast<const hwy::bfloat16_t*>(source), columns, to, codes);
    default:
      return quantize(static_cast<const float*>(source), columns, to, codes);
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {
HWY_EXPORT(quantize_any);

bool quantize_row(DType from, const void* source, std::int64_t columns, DType to, void* target) {
  return HWY_DYNAMIC_DISPATCH(quantize_any)(from, source, columns, to, target);
}
}  // namespace sluice::kernels
#endif  // HWY_ONCE
