// The least of all plans, and where that does not fit, what it would need, to the byte.
#pragma once

#include "launcher/planner/plan_builder.h"

namespace sluice::launcher {

/// One of the smallest batches with all weights, and all of the cache, in one tier each. Throws
/// CapacityError where none of these fits: the stage, the tier, the bytes wanted, there and missing
/// of the one that misses fewest bytes.
Plan least_plan(PlanBuilder& builder);

}  // namespace sluice::launcher
