// `sluice serve`: a run whose rows come over HTTP.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "kernels/device/error.h"
#include "launcher/config/run_config.h"
#include "launcher/config/serve_arguments.h"
#include "launcher/generate/generate_command.h"

namespace sluice::launcher {

/// As generate(), until the server is told to stop; collective. `out` gets the line that says where
/// it listens, before anything is loaded.
ExitStatus serve(const RunConfig& config, const ServeArguments& arguments, DryRun dry_run,
                 const std::string& command_line,
                 const std::function<void(const std::string& sentence)>& say, std::ostream& out);

}  // namespace sluice::launcher
