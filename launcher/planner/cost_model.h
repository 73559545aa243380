// Seconds that a task of the schedule keeps its resource busy on a given machine, and what it takes
// meanwhile of what others on the same host want, too.
#pragma once

#include <cstdint>

#include "launcher/planner/machine.h"
#include "stage/schedule.h"
#include "stage/stage_config.h"
#include "stage/task_work.h"

namespace sluice::launcher {

/// Where a stage stands: what it shares with others.
struct StagePlace {
  std::int32_t ranks_on_host = 1;  // stages that share the host's memory, disk, cores and link
  std::int32_t threads = 0;        // of a CPU stage; 0: the host's cores over its ranks
  bool next_on_same_host = true;   // the stage that this one sends to
  bool pinned = true;              // Policy::pin_weight
};

/// Of one task. The last four are what it takes in all of what the host has: where the tasks under
/// way on a host want more in a second than there is, all that want it are slower in proportion.
struct TaskCost {
  double seconds = 0;  // alone: with nothing else under way
  double core_seconds = 0;
  double memory_bytes = 0;  // read and written in host memory
  double link_seconds = 0;  // of the host's link; 0 where each device has its own
  double disk_seconds = 0;
};

/// Of one stage. Pure arithmetic: no clock, no device. A figure that the machine does not have is
/// taken from the nearest that it has; what none says costs nothing.
class CostModel {
 public:
  /// `storage`: of the weights (DType::q8, q4 where they are compressed); `cache`: of the KV cache.
  /// `limits` are links made slower than they are. `machine` must outlive it.
  CostModel(const Machine& machine, const StagePlace& place, DType storage, DType cache,
            const stage::RateLimits& limits = {});

  TaskCost cost(const stage::Task& task, const stage::ScheduleShape& shape,
                const stage::StageWork& work) const;
  /// cost().seconds.
  double seconds(const stage::Task& task, const stage::ScheduleShape& shape,
                 const stage::StageWork& work) const {
    return cost(task, shape, work).seconds;
  }
  /// How much longer a task of `resource` takes while one of `other` is busy in the same stage,
  /// too: 1 or more.
  double slowdown(stage::Resource resource, stage::Resource other) const;

  /// What the host has in a second, as TaskCost counts it.
  double host_cores() const;
  double host_memory_rate() const;  // 0: not known

 private:
  const Machine& machine_;
  StagePlace place_;
  DType storage_;
  DType cache_;
  stage::RateLimits limits_;
};

}  // namespace sluice::launcher
