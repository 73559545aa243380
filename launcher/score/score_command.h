// `sluice score`: questions with choices, and how many of them are answered right.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "kernels/device/error.h"
#include "launcher/config/run_config.h"
#include "launcher/config/score_arguments.h"
#include "launcher/generate/generate_command.h"

namespace sluice::launcher {

/// generate() over rows that are questions. Prints on `out`, on the head: the accuracy over all
/// rows that the output has then, and of what failed one message.
ExitStatus score(const RunConfig& config, const ScoreArguments& arguments, DryRun dry_run,
                 const std::string& command_line,
                 const std::function<void(const std::string& sentence)>& say, std::ostream& out);

}  // namespace sluice::launcher
