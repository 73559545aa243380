// What a report calls the tasks of a schedule.
#pragma once

#include "kernels/device/trace.h"
#include "stage/schedule.h"

namespace sluice::launcher {

/// What a resource is at work with; `writes`: of the disk.
Activity activity_of(stage::Resource resource, bool writes);

/// What the compute lane stands still for, where it waits for this task.
Activity stall_of(stage::TaskKind kind);

}  // namespace sluice::launcher
