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

/// Of one task. The last four say what it takes in all of the host's shared resources. Where the
/// tasks under way want more per second than the host has, all that want it slow down in
/// proportion.
struct TaskCost {
  double seconds = 0;  // alone: with nothing else under way
  /// ... and without the user's limits: a copy that a limit makes wait can be slowed down so far
  /// before it shows.
  double least_seconds = 0;
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

  /// Of a CPU stage: what copies and the disk take from its products is in TaskCost::core_seconds.
  bool shares_cores() const { return is_cpu(); }
  /// What the host has in a second, as TaskCost counts it.
  double host_cores() const;
  double host_memory_rate() const;  // 0: not known

 private:
  TaskCost compute(const stage::Task& task, const stage::ScheduleShape& shape,
                   const stage::StageWork& work) const;
  TaskCost copy(std::uint64_t bytes, bool to_device) const;
  TaskCost disk(std::uint64_t read, std::uint64_t written, std::uint64_t request) const;
  TaskCost attend_on_host(const stage::TaskWork& work) const;
  TaskCost append(const stage::Task& task, const stage::ScheduleShape& shape,
                  const stage::StageWork& work) const;
  TaskCost message(std::uint64_t bytes) const;
  TaskCost sample(double rows, const stage::StageWork& work) const;

  double product_seconds(double flop, double rows) const;
  bool is_cpu() const { return machine_.device.kind == "cpu"; }
  double link_rate(bool to_device) const;
  double link_cores(bool to_device) const;

  const Machine& machine_;
  StagePlace place_;
  stage::RateLimits limits_;
  double threads_ = 1;
  double device_share_ = 1;  // of the device's rates: a CPU stage has only its own threads
  double host_share_ = 1;    // of the host's rates
  const RateCurve* products_ = nullptr;
  double attention_bytes_ = 0, attention_flop_ = 0;  // rates of the device
  double host_attention_bytes_ = 0, host_attention_flop_ = 0;
};

}  // namespace sluice::launcher
