// Which machine a plan or a prediction is for.
#pragma once

#include <filesystem>

#include "comm/world.h"
#include "launcher/planner/machine.h"

namespace sluice::launcher {

/// The machine of `file`; where that is empty, this machine as sluice calibrate measured it.
/// `what`: "a plan", for the sentence where the file says too little. Throws ConfigError.
Machine machine_for(const std::filesystem::path& file, const char* what);

/// Of this machine: its memory is what others leave of it now.
void fit_to_available_memory(Machine& machine);

/// `machine` with the hosts of a run's ranks. Where hosts have different numbers of ranks, each
/// counts as having the most, so that no rank is without a device.
Machine with_ranks_of(const comm::World& world, Machine machine);

}  // namespace sluice::launcher
