// `sluice chat`: a run whose rows a person types.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "kernels/device/error.h"
#include "launcher/config/run_config.h"
#include "launcher/config/serve_arguments.h"
#include "launcher/generate/generate_command.h"

namespace sluice::launcher {

/// As generate(), until standard input ends; collective. Answers go to `out`.
ExitStatus chat(const RunConfig& config, const ServeArguments& arguments, DryRun dry_run,
                const std::string& command_line,
                const std::function<void(const std::string& sentence)>& say, std::ostream& out);

}  // namespace sluice::launcher
