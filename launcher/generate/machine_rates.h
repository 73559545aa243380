// The rates a run's report is compared with: known from before, or measured now, by one rank of
// each host for all of its ranks.
#pragma once

#include <string>

#include "comm/world.h"
#include "kernels/ops.h"
#include "launcher/config/run_config.h"
#include "stage/report.h"

namespace sluice::launcher {

/// Where the run's disk bytes lie: the model's largest weight file where weights stay on disk;
/// empty where no policy uses the disk, or only for files that the run itself will write.
std::filesystem::path disk_to_measure(const RunConfig& config, const stage::StageConfig& stage,
                                      const std::filesystem::path& model);

/// This rank's rates: its share of its host's threads, the whole of its links and disk; each no
/// more than `stage.limits`. Of a device with memory of its own, `engine` is measured for this run.
/// `seen`: somebody will read the figures (the head decides). Collective. Never fails for want of a
/// figure: what cannot be measured is 0, and rank 0 says why on standard error unless the run is
/// quiet.
stage::MachineRates rates_for_run(comm::World& world, const RunConfig& config,
                                  const stage::StageConfig& stage,
                                  const std::filesystem::path& disk, bool seen,
                                  kernels::Engine& engine);

}  // namespace sluice::launcher
