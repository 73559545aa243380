// The control groups (cgroups) that limit this process: a batch system or a container runtime puts
// a job into a nested one, and the kernel kills the job that goes beyond its limit.
//
// A limit of any group on the way from the process's own to the root counts. Both versions of
// cgroups are read, since a machine may have both: where each group is found is told by
// /proc/self/cgroup (its path in its hierarchy) and /proc/self/mountinfo (where that hierarchy is).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

namespace sluice::launcher {

/// What one group still gives.
struct GroupLimit {
  std::string name;      // "/slurm/uid_1000/job_7", as the kernel has it
  std::uint64_t id = 0;  // of the group on its host: alike for all processes in it
  double amount = 0;     // bytes, or processors
  static auto fields(auto& self) { return std::tie(self.name, self.id, self.amount); }
};

/// Bytes of memory that each limited group of this process still gives, nearest group first.
/// Groups without a limit are left out. Page cache that a group is charged with counts as free,
/// since the kernel takes it back. `root`: of the file system, or of a test's.
std::vector<GroupLimit> memory_limits(const std::filesystem::path& root = "/");

/// Processors' worth of time that each limited group of this process may use. (Which processors a
/// group may use, its cpuset, is in the affinity mask already.)
std::vector<GroupLimit> processor_limits(const std::filesystem::path& root = "/");

}  // namespace sluice::launcher
