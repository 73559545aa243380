// What a stage's report says before anything ran: its place, its plan and the machine's rates.
#pragma once

#include <vector>

#include "launcher/planner/machine.h"
#include "stage/report.h"
#include "stage/stage_memory.h"

namespace sluice::launcher {

/// The high-water mark is the plan. Phases are left empty.
stage::StageReport simulated_report(const stage::StageLayout& layout,
                                    const std::vector<offload::GroupPlacement>& placement,
                                    const Machine& machine, std::int32_t host);

}  // namespace sluice::launcher
