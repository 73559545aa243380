// Between a configuration and a plan: what it leaves open is asked, and what is chosen goes back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/config/run_config.h"
#include "launcher/jobs/request_row.h"
#include "launcher/planner/plan.h"
#include "launcher/planner/plan_request.h"

namespace sluice::launcher {

/// What `config.said` decides.
Decided decided_by(const RunConfig& config);
/// Nothing says where bytes live, or how prompts are batched.
bool leaves_policy_open(const RunConfig& config);

/// A job like that of `scan`: as many rows as are left, with the lengths of those that were looked
/// at. Throws ConfigError where the lengths of no row are known: an empty input, a pipe.
PlannedJob job_of(const RunConfig& config, const JobScan& scan);

/// For `stages` ranks. `model` and `machine` must outlive it. Throws ConfigError where the
/// configuration has another number of stages.
PlanRequest plan_request(const RunConfig& config, const OpenedModel& model, const Machine& machine,
                         std::int32_t stages, PlannedJob job);

/// `config` with what was chosen: stages and batching. Nothing in it is open.
RunConfig with_plan(const RunConfig& config, const Plan& plan);

/// The command that runs the plan: by `file`, or where that is empty by flags, if they can say it.
/// Empty: they cannot, as the stages differ.
std::string command_of(const RunConfig& config, const Plan& plan, const std::string& file);

}  // namespace sluice::launcher
