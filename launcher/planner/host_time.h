// The tasks under way on one host in virtual time. What a host has (cores, memory bandwidth, the
// link, the disk) is shared in proportion where more is wanted than there is.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/device/trace.h"
#include "launcher/planner/cost_model.h"

namespace sluice::launcher {

/// What a stage has done so far, by Activity, and whether its compute lane is at work.
struct StageAccount {
  stage::ActivityTotals totals;
  bool computing = false;

  double& seconds(Activity activity) { return totals.seconds[static_cast<std::size_t>(activity)]; }
};

/// A task on its resource.
struct RunningTask {
  std::int32_t stage = 0;
  std::int64_t pass = 0;
  std::int32_t task = 0;
  stage::Resource resource = stage::Resource::none;
  Activity activity = Activity::compute;
  bool is_counted = true;           // sampling is no activity
  StageAccount* account = nullptr;  // time goes there while it runs
  const CostModel* prices = nullptr;
  TaskCost cost;
  double begin = 0;
  double left = 0;  // of cost.seconds
  double speed = 1;
};

class HostTime {
 public:
  /// `next_end`: where it says when the next task is over; infinity: none is under way.
  HostTime(const CostModel& any_stage, double& next_end);

  void start(double now, RunningTask task);
  /// Takes out the task that is over. Pre: now is what was said to be the next end.
  RunningTask end(double now);

 private:
  void advance(double now);
  void set_speeds();

  double cores_;
  double memory_rate_;
  double now_ = 0;
  double& next_end_;
  std::size_t next_ = 0;
  std::vector<RunningTask> tasks_;
};

}  // namespace sluice::launcher
