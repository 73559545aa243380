// Which processors are near a GPU.
#pragma once

#include <sched.h>

#include <filesystem>
#include <optional>
#include <string>

namespace sluice::cuda {

/// "0-3,8,10-11" as a set, as the kernel writes it. Nothing where it is none, or names no
/// processor.
std::optional<cpu_set_t> processors_of(const std::string& list);

/// The processors near the PCI device "0000:3b:00.0", which /sys/bus/pci/devices (`devices`) knows.
std::optional<cpu_set_t> processors_near(const std::string& pci_id,
                                         const std::filesystem::path& devices);

/// Keeps the calling thread, and threads it makes from now on, on the processors near a GPU: those
/// of `near` that the thread may use. Only where they are at least `threads` and not all it may
/// use; else does nothing. True: done.
bool stay_near(const cpu_set_t& near, int threads);

}  // namespace sluice::cuda
