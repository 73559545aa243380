// `sluice plan`: chooses how a job runs on a machine, and says what it will take.
#pragma once

#include <ostream>

#include "launcher/config/cli.h"

namespace sluice::launcher {

/// Prints the plan. Throws CapacityError where none fits, with the bytes that are missing and,
/// where what was decided is to blame, the nearest plan that fits.
void plan_run(const RunConfig& config, const PlanArguments& arguments, std::ostream& out);

}  // namespace sluice::launcher
