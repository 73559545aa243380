#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/instruction_set.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {
const char* own_name() { return hwy::TargetName(HWY_TARGET); }
}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {
HWY_EXPORT(own_name);
const char* instruction_set() { return HWY_DYNAMIC_DISPATCH(own_name)(); }
}  // namespace sluice::kernels
#endif  // HWY_ONCE
