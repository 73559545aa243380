// Puts a tree of written values into a RunConfig. Every value that the schema does not allow
// becomes a problem, and so does every unknown key.
#pragma once

#include <string>
#include <vector>

#include "launcher/config/config_node.h"
#include "launcher/config/config_schema.h"
#include "launcher/config/run_config.h"

namespace sluice::launcher {

/// Sets in `config` what `root` says (a map, or nothing) and leaves the rest; adds to `problems`.
/// `prefix` stands before every problem's place: "run.yaml:".
void read_config(const ConfigNode& root, const std::string& prefix, RunConfig& config,
                 ConfigProblems& problems);

/// The same for one stage and the keys of stage_defaults. So flags win over each stage of a file.
void read_stage(const ConfigNode& root, const std::string& prefix, stage::StageConfig& stage,
                ConfigProblems& problems);

/// The sentences in the order of their places, one per line. Throws ConfigError if there are any.
void refuse_problems(ConfigProblems problems);

}  // namespace sluice::launcher
