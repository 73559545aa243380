// The stages of a run as they would be, made from a configuration, a model's shapes and a machine:
// what a simulated run needs. Nothing is opened or allocated.
#pragma once

#include <vector>

#include "launcher/config/run_config.h"
#include "launcher/model/opened_model.h"
#include "launcher/planner/machine.h"
#include "launcher/planner/simulator.h"

namespace sluice::launcher {

/// `stages`: as stages_of() gives them (generate/rank.h). Where config.batching does not say the
/// job's longest sequence, that of `requests` is taken. Throws ConfigError where there are none.
SimulatedJob paper_job(const RunConfig& config, const std::vector<stage::StageConfig>& stages,
                       const OpenedModel& model, const Machine& machine,
                       std::vector<SimulatedRequest> requests);

/// As a run would, before anything is loaded. Throws CapacityError where a tier is too small.
void check_capacity(const SimulatedJob& job, const Machine& machine);

}  // namespace sluice::launcher
