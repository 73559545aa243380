#include "comm/launch_check.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

/// 0 where there is no such variable, or no number in it.
int number_in(const char* text) {
  int number = 0;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
}

}  // namespace

void check_options(const MpiOptions& options) {
  if (options.heartbeat.count() <= 0 || options.deadline < 2 * options.heartbeat) {
    throw ConfigError(
        fmt::format("comm.deadline_seconds is {:g}, but ranks tell that they live every {:g} s; "
                    "make the deadline at least twice that.",
                    static_cast<double>(options.deadline.count()) / 1000.0,
                    static_cast<double>(options.heartbeat.count()) / 1000.0));
  }
  constexpr std::size_t kMaxChunkBytes = std::size_t{1} << 30;
  if (options.chunk_bytes == 0 || options.chunk_bytes > kMaxChunkBytes) {
    throw ConfigError(fmt::format("Messages cannot be cut into chunks of {} bytes; use 1 to {}.",
                                  options.chunk_bytes, kMaxChunkBytes));
  }
}

void check_launch(int world_size, const char* ompi_size, const char* slurm_tasks) {
  if (const int started = number_in(ompi_size); started > 0) {
    if (started == world_size) return;
    throw ConfigError(
        fmt::format("mpirun started {} processes, but MPI joined {} of them into this job; use the "
                    "mpirun of the Open MPI this program is linked with (under Slurm: srun "
                    "--mpi=pmix).",
                    started, world_size));
  }
  // Inside `mpirun` the Slurm step is mpirun's own and has one task per host: only a job of one
  // rank that mpirun did not start tells us something.
  if (const int tasks = number_in(slurm_tasks); tasks > 1 && world_size == 1) {
    throw ConfigError(
        fmt::format("srun started {} processes, but each of them is an MPI job of its own; start "
                    "the job with `srun --mpi=pmix`.",
                    tasks));
  }
}

}  // namespace sluice::comm
