// The laws of worlds in a real MPI job: run it with mpirun. Rank 0 lists the laws; the first broken
// one ends the job.
#include <fmt/format.h>

#include <cstdio>

#include "tests/comm/world_laws.h"

int main() {
  using sluice::ExitStatus;
  sluice::comm::MpiOptions options;
  options.heartbeat = std::chrono::milliseconds(20);  // many of them, beside the messages
  options.chunk_bytes = sluice::comm::kLawChunkBytes;
  const auto world = sluice::comm::make_mpi_world(options);
  for (const sluice::comm::Law& law : sluice::comm::world_laws()) {
    world->step(law.name, -1, -1);
    try {
      law.check(*world);
    } catch (const std::exception& error) {
      world->fail(ExitStatus::failure, fmt::format("law {}: {}", law.name, error.what()));
    }
    if (world->rank() == 0) fmt::print("ok {}\n", law.name);
  }
}
