// Everything that one process can measure of a machine by itself.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "kernels/ops.h"
#include "launcher/calibrate/sampler.h"

namespace sluice::launcher {

/// All but the network, `hosts` and `devices`. `engine` is used by nobody else meanwhile. The disk
/// is that of `folder`. Throws CapacityError where there is no room to measure in, IoError.
Machine measure_machine(kernels::Engine& engine, const std::filesystem::path& folder,
                        Sampler& sampler);

/// Figures that measure_machine() asks of its sampler: for a progress bar.
std::uint64_t figures_to_measure(const kernels::Engine& engine, const CalibrationSizes& sizes);

}  // namespace sluice::launcher
