// What a plan will take, by the simulator.
#pragma once

#include "launcher/planner/plan.h"
#include "launcher/planner/stage_papers.h"

namespace sluice::launcher {

/// Layouts and placements of the plan, as the run makes them, and the sequences of the job.
SimulatedJob simulated_job(StagePapers& papers, const Plan& plan);

/// About how many tasks a simulation goes through.
double tasks_of(const PlanRequest& request, const Plan& plan);

/// Sets `plan.seconds` to what simulate() says.
void predict(StagePapers& papers, Plan& plan);

}  // namespace sluice::launcher
