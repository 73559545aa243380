// What can be wrong with a job before its ranks have met.
#pragma once

#include "comm/world.h"

namespace sluice::comm {

/// Throws ConfigError for options out of range.
void check_options(const MpiOptions& options);

/// Tells a job of one rank from one whose ranks do not see each other.
/// `ompi_size` and `slurm_tasks` are the values of OMPI_COMM_WORLD_SIZE and SLURM_STEP_NUM_TASKS,
/// or null. Throws ConfigError where a launcher started more processes than MPI sees, naming the
/// right command.
void check_launch(int world_size, const char* ompi_size, const char* slurm_tasks);

}  // namespace sluice::comm
