// How the ranks of a run are started, by Open MPI's mpirun.
#pragma once

#include <string>
#include <vector>

#include "launcher/config/launch_arguments.h"

namespace sluice::launcher {

/// The command line that starts `program` with `words`: by mpirun, or where one rank stays on this
/// host, alone. On one host no rank listens; mpirun itself cannot be kept from it.
std::vector<std::string> rank_command(const RankStart& start, const std::string& program,
                                      const std::vector<std::string>& words);

/// The path of this program.
std::string own_program();

}  // namespace sluice::launcher
