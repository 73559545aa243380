// What the commands that take a run's configuration have in common.
#pragma once

#include <string>
#include <vector>

#include "launcher/config/cli_help.h"
#include "launcher/config/given_flags.h"
#include "launcher/config/run_config.h"

namespace sluice::launcher {

/// Adds the other names and the meanings of flags that are keys of the schema, where they are
/// empty.
std::vector<FlagGroup> with_schema(std::vector<FlagGroup> groups);

/// Reads the --config file, if one is given, and the flags, which win. Throws ConfigError with a
/// line for each problem.
void read_run_config(GivenFlags& given, const Words& words, const std::string& command,
                     RunConfig& config);

}  // namespace sluice::launcher
