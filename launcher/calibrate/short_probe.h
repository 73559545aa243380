// A short measurement of what this machine can do: the other side of the report's ratios. Under
// 1.5 s in all; each figure is the best of several short pieces, so that other work on the machine
// spoils it less.
#pragma once

#include <filesystem>
#include <string>

#include "kernels/ops.h"
#include "stage/report.h"

namespace sluice::launcher {

/// By all of `threads` threads together; the reading is plain C++, not the kernels' own. Bytes per
/// second of memory far beyond any cache (128 MiB, or 32 MiB per thread).
double measure_memory_read(int threads);

/// Copies between device and host memory (32 MiB; 256 MiB where the device has memory of its own,
/// whose own rate is measured, too) and a matrix product in the engine's compute dtype ([256, 1024]
/// x [1024, 1024]; 4096 in all three). Sets flop, host_to_device, device_to_host and device_read.
/// Throws CapacityError where 512 MiB of device and host memory are not there.
void measure_device(kernels::Engine& engine, stage::MachineRates& rates);

/// The same of a CPU engine of its own, with no limits.
stage::MachineRates measure_cpu(int threads);

/// Reads past the page cache (O_DIRECT), 8 requests of 1 MiB at a time. 0 where the file system
/// refuses that, or the file is smaller than 8 MiB. Throws IoError.
double measure_disk_read(const std::filesystem::path& file);

/// Threads a run uses on this machine: `threads`, or where that is 0 the cores it may use.
int probe_threads(int threads);

}  // namespace sluice::launcher
