// Who started this process, as one of how many: read from the variables that launchers leave in
// the environment, before MPI is started.
//
// MPI itself cannot be asked. Open MPI ends the process where it does not like its launcher, and
// takes each process for a whole job where it does not know it: two would write one output file.
#pragma once

#include <functional>
#include <string>

#include "comm/world.h"

namespace sluice::comm {

/// Looks a variable up; null: not set. std::getenv, or a test's.
using Environment = std::function<const char*(const char* name)>;
const char* variable_of_process(const char* name);

struct Launch {
  std::string launcher;  // "srun"; empty: no launcher
  std::string sign;      // the variable that told: "PMI_RANK"
  int processes = 1;     // 0: the launcher does not say
  int rank = 0;
  int local_rank = 0;     // among the processes of this host; 0 where the launcher does not say
  bool one_host = false;  // the launcher says that it started all processes on this host
  /// Open MPI can join the processes. False: they belong to another MPI, or to none.
  bool joins = true;

  /// A lone process needs no MPI.
  bool alone() const { return processes == 1; }
};

/// The nearest launcher counts: mpirun inside a Slurm job is mpirun.
Launch find_launch(const Environment& environment = variable_of_process);

/// Throws ConfigError where `launch` started several processes that Open MPI cannot join.
void check_launch(const Launch& launch);

/// Throws ConfigError where MPI joined another number of processes than were started.
void check_joined(const Launch& launch, int world_size);

/// Throws ConfigError for options out of range.
void check_options(const MpiOptions& options);

}  // namespace sluice::comm
