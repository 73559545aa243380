// `sluice generate`: from the configuration to the answers, on every rank.
#pragma once

#include <string>

#include "kernels/device/error.h"
#include "launcher/config/run_config.h"

namespace sluice::launcher {

/// Runs the job; collective when a launcher started several ranks. With `dry_run` only plans:
/// prints the layers and memory of each stage. Returns done or rows_failed; throws what main turns
/// into an exit status. Over MPI, what fails once the ranks are at work ends the process instead
/// (World::fail).
ExitStatus generate(const RunConfig& config, bool dry_run, const std::string& command_line);

}  // namespace sluice::launcher
