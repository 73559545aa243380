// `sluice simulate`: a run in virtual time, for machines that are here and for those that are not.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include "launcher/config/run_config.h"

namespace sluice::launcher {

/// Prints what the run's report would say, and writes the files of --report and --trace in the form
/// of a real run's. `ranks` 0: as many as the configuration has stages, or one. Throws ConfigError
/// where there is no machine file; what the run would throw before it begins.
void simulate_run(const RunConfig& config, std::int32_t ranks, const std::string& command_line,
                  std::ostream& out);

}  // namespace sluice::launcher
