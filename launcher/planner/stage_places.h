// Which stage stands on which host of a machine, and what it shares there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "launcher/planner/cost_model.h"
#include "launcher/planner/machine.h"
#include "stage/stage_memory.h"

namespace sluice::launcher {

/// What the CUDA engine takes for itself: KernelRunner::kWorkspaceBytes, which this build may lack.
constexpr std::uint64_t kCudaWorkspaceBytes = std::uint64_t{240} << 20U;

/// Stages fill the hosts one after the other: a stage on each device, or more where there are not
/// enough hosts. At most so many stand on one.
std::int32_t stages_on_host(const Machine& machine, std::int32_t stages);
std::size_t host_of_stage(const std::vector<stage::StageLayout>& stages, std::size_t stage,
                          const Machine& machine);
/// Of a stage's device: see kind_of() in machine.h.
std::size_t kind_of_stage(const std::vector<stage::StageLayout>& stages, std::size_t stage,
                          const Machine& machine);
StagePlace place_of(const std::vector<stage::StageLayout>& stages, std::size_t stage,
                    const Machine& machine);

/// What the stage's matrices are stored as.
DType storage_of(const std::vector<offload::GroupPlacement>& placement);

/// Seconds of a small message.
double latency_between(const Machine& machine, bool same_host);

}  // namespace sluice::launcher
