// What a device's links carry, alone and beside products, and what the fixed parts of tasks take.
#pragma once

#include "launcher/calibrate/operands.h"
#include "launcher/calibrate/sampler.h"

namespace sluice::launcher {

/// Of `lane`: host_to_device or device_to_host. `products`: run beside the copies. Of memory that
/// is not pinned only where the device has memory of its own.
LinkRates measure_link(kernels::Engine& engine, Lane lane, ProductRun& products, Sampler& sampler);

/// Copies in one direction, as one rank of several that copy at once: bytes per second.
double copy_once(kernels::Engine& engine, Lane lane, std::size_t bytes, int times);

/// Within the device's memory, bytes read and written: as fast as reading all of them.
Figure measure_device_memory(kernels::Engine& engine, Sampler& sampler);

/// Sets task_seconds and operation_seconds.
void measure_fixed_times(kernels::Engine& engine, Sampler& sampler, DeviceRates& rates);

}  // namespace sluice::launcher
