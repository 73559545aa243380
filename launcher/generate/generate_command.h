// `sluice generate`: from the configuration to the answers, on every rank.
#pragma once

#include <functional>
#include <string>

#include "kernels/device/error.h"
#include "launcher/config/run_config.h"
#include "launcher/generate/run_job.h"

namespace sluice::launcher {

/// What to do without the job itself.
struct DryRun {
  bool only_plan = false;
  bool schedule = false;  // with only_plan: print the tasks of a decode step as well
};

/// Runs the job; collective when a launcher started several ranks. A dry run only plans:
/// prints the layers and memory of each stage. What fails on the way to work is told to `say`, on
/// every rank, and is the status returned; over MPI, what fails once the ranks are at work ends the
/// process instead (World::fail). Throws where there can be no world of ranks.
ExitStatus generate(const RunConfig& config, DryRun dry_run, const std::string& command_line,
                    const std::function<void(const std::string& sentence)>& say,
                    const JobHooks& hooks = {});

}  // namespace sluice::launcher
