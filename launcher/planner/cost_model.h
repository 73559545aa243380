// Seconds that a task of the schedule keeps its resource busy on a given machine.
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
};

/// Of one stage. Pure arithmetic: no clock, no device.
class CostModel {
 public:
  /// `storage`: of the weights (DType::q8, q4 where they are compressed); `cache`: of the KV cache.
  /// `limits` are links made slower than they are. `machine` must outlive it.
  CostModel(const Machine& machine, const StagePlace& place, DType storage, DType cache,
            const stage::RateLimits& limits = {});

  /// Alone: with nothing else under way.
  double seconds(const stage::Task& task, const stage::ScheduleShape& shape,
                 const stage::StageWork& work) const;
  /// How much longer a task of `resource` takes while `other` is busy, too: 1 or more.
  double slowdown(stage::Resource resource, stage::Resource other) const;

 private:
  const Machine& machine_;
  StagePlace place_;
  DType storage_;
  DType cache_;
  stage::RateLimits limits_;
};

}  // namespace sluice::launcher
