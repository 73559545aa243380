// A run that was not told where bytes live or how prompts are batched plans by itself, where the
// machine has been measured.
#pragma once

#include <optional>

#include "comm/world.h"
#include "launcher/config/run_config.h"
#include "launcher/jobs/request_row.h"
#include "launcher/model/opened_model.h"
#include "launcher/planner/plan.h"

namespace sluice::launcher {

/// The head's. Nothing where the configuration says how to run, where there is no machine file (or
/// one of another kind of device), where the lengths of no row are known, or where no plan fits.
/// Says in one line on standard error what was chosen, or why nothing was, unless the run is quiet.
/// Never fails a run: what goes wrong is no plan.
std::optional<Plan> plan_open_run(const RunConfig& config, const OpenedModel& model,
                                  const JobScan& scan, const comm::World& world);

}  // namespace sluice::launcher
