// Whether a process of this host still runs, told from /proc.
#pragma once

#include <cstdint>

namespace sluice::comm {

/// A process. The time it started tells it from a later process with the same number.
struct ProcessId {
  int pid = 0;
  std::uint64_t start_ticks = 0;  // since boot, field 22 of /proc/<pid>/stat
};

/// Throws IoError where /proc is not there.
ProcessId this_process();

/// False once the process has ended, also while it is a zombie. A stopped process is alive. Any
/// thread.
bool is_alive(const ProcessId& process);

}  // namespace sluice::comm
