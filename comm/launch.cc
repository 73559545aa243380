#include "comm/launch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

/// What a launcher sets.
struct Launcher {
  const char* name;
  const char* sign;  // set for every process that it starts
  const char* size;
  const char* rank;
  const char* joined_by;  // what Open MPI needs beside them; null: it cannot join
  const char* local_rank = nullptr;
  const char* local_size = nullptr;  // processes of this host; null: not told
  const char* hosts = nullptr;       // how many there are; null: not told
};

/// Nearer launchers first: mpirun and mpiexec start their helpers by srun, and leave its variables.
/// Slurm's own shells have SLURM_PROCID, too, but no size of a step.
constexpr std::array kLaunchers = {
    Launcher{"Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
             "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
             "OMPI_COMM_WORLD_LOCAL_SIZE"},
    Launcher{"MVAPICH's launcher", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE",
             "MV2_COMM_WORLD_RANK", nullptr},
    Launcher{"MVAPICH's launcher", "MVP_COMM_WORLD_RANK", "MVP_COMM_WORLD_SIZE",
             "MVP_COMM_WORLD_RANK", nullptr},
    Launcher{"jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK",
             "PMIX_RANK"},
    Launcher{"flux run", "FLUX_TASK_RANK", "FLUX_JOB_SIZE", "FLUX_TASK_RANK",
             "FLUX_PMI_LIBRARY_PATH"},
    Launcher{"the mpiexec of PALS", "PALS_RANKID", "PMI_SIZE", "PALS_RANKID", "PMIX_RANK"},
    Launcher{"the launcher of another MPI (mpiexec of MPICH or Intel MPI, srun --mpi=pmi2)",
             "PMI_RANK", "PMI_SIZE", "PMI_RANK", nullptr},
    Launcher{"srun", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "PMIX_RANK",
             "SLURM_LOCALID", nullptr, "SLURM_STEP_NUM_NODES"},
    Launcher{"a launcher with PMIx", "PMIX_RANK", "PMIX_SIZE", "PMIX_RANK", "PMIX_RANK"},
};

/// -1 where there is no such variable, or no number in it.
int number_in(const char* text) {
  int number = -1;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
}

/// -1 also where the launcher does not say.
int number_of(const char* name, const Environment& environment) {
  return name != nullptr ? number_in(environment(name)) : -1;
}

std::string count_of(int processes) {
  return processes > 0 ? fmt::format("{} processes", processes) : "several processes";
}

constexpr const char* kRightWay =
    "start the job with the mpirun of the Open MPI that sluice is linked with, or under Slurm with "
    "`srun --mpi=pmix`";

}  // namespace

const char* variable_of_process(const char* name) { return std::getenv(name); }

Launch find_launch(const Environment& environment) {
  for (const Launcher& launcher : kLaunchers) {
    if (number_in(environment(launcher.sign)) < 0) continue;
    Launch launch;
    launch.launcher = launcher.name;
    launch.sign = launcher.sign;
    launch.processes = std::max(0, number_in(environment(launcher.size)));
    launch.rank = std::max(0, number_in(environment(launcher.rank)));
    launch.local_rank = std::max(0, number_of(launcher.local_rank, environment));
    launch.one_host =
        number_of(launcher.hosts, environment) == 1 ||
        (launch.processes > 0 && number_of(launcher.local_size, environment) == launch.processes);
    launch.joins = launcher.joined_by != nullptr && environment(launcher.joined_by) != nullptr;
    return launch;
  }
  return {};
}

void check_launch(const Launch& launch) {
  if (launch.alone() || launch.joins) return;
  throw ConfigError(fmt::format(
      "{} started {} that sluice's Open MPI cannot join into one job, so each would run the whole "
      "job ({} is set); {}, or unset {} for a process of its own",
      launch.launcher, count_of(launch.processes), launch.sign, kRightWay, launch.sign));
}

void check_joined(const Launch& launch, int world_size) {
  const bool as_started =
      launch.processes > 0 ? launch.processes == world_size : world_size > 1 || launch.rank == 0;
  if (as_started) return;
  throw ConfigError(fmt::format("{} started {}, but MPI joined {} into this job; {}",
                                launch.launcher, count_of(launch.processes), world_size,
                                kRightWay));
}

std::unique_ptr<World> make_world(const MpiOptions& options) {
  const Launch launch = find_launch();
  if (launch.alone()) return make_lone_world(options);
  check_launch(launch);
  return make_mpi_world(options);
}

void check_options(const MpiOptions& options) {
  if (options.heartbeat.count() <= 0 || options.deadline < 2 * options.heartbeat) {
    throw ConfigError(
        fmt::format("comm.deadline_seconds is {:g}, but ranks send a heartbeat every {:g} s "
                    "(comm.heartbeat_seconds); make the deadline at least twice that",
                    static_cast<double>(options.deadline.count()) / 1000.0,
                    static_cast<double>(options.heartbeat.count()) / 1000.0));
  }
  constexpr std::size_t kMaxChunkBytes = std::size_t{1} << 30;
  if (options.chunk_bytes == 0 || options.chunk_bytes > kMaxChunkBytes) {
    throw ConfigError(fmt::format("messages cannot be cut into chunks of {} bytes; use 1 to {}",
                                  options.chunk_bytes, kMaxChunkBytes));
  }
}

}  // namespace sluice::comm
