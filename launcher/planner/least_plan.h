// Where nothing fits: what the least of all plans would need, to the byte.
#pragma once

#include <string>

#include "launcher/planner/plan_builder.h"

namespace sluice::launcher {

/// Throws CapacityError: the stage, the tier, the bytes wanted, there and missing, of the plan with
/// the smallest batches that misses fewest bytes.
[[noreturn]] void refuse_least(PlanBuilder& builder);

}  // namespace sluice::launcher
