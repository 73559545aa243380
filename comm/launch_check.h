// Tells a job of one rank from a job whose ranks do not see each other.
#pragma once

namespace sluice::comm {

/// `ompi_size` and `slurm_tasks` are the values of OMPI_COMM_WORLD_SIZE and SLURM_STEP_NUM_TASKS,
/// or null. Throws ConfigError where a launcher started more processes than MPI sees, naming the
/// right command.
void check_launch(int world_size, const char* ompi_size, const char* slurm_tasks);

}  // namespace sluice::comm
