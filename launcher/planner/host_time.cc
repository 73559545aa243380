#include "launcher/planner/host_time.h"

#include <algorithm>
#include <limits>

namespace sluice::launcher {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// How much of what it wants everybody gets: 1, or less where more is wanted than there is.
double granted(double wanted, double there_is) {
  return there_is > 0 && wanted > there_is ? there_is / wanted : 1;
}

/// A task that wants a thing for a part of its time is slowed down in that part only.
double slowed(double part, double granted) { return 1 / (1 - part + part / granted); }

}  // namespace

HostTime::HostTime(const CostModel& any_stage, double& next_end)
    : cores_(any_stage.host_cores()),
      memory_rate_(any_stage.host_memory_rate()),
      next_end_(next_end) {
  next_end_ = kNever;
}

void HostTime::start(double now, RunningTask task) {
  advance(now);
  task.begin = now;
  task.left = task.cost.seconds;
  if (task.resource == stage::Resource::compute) task.account->computing = true;
  tasks_.push_back(task);
  set_speeds();
}

RunningTask HostTime::end(double now) {
  advance(now);
  const RunningTask ended = tasks_[next_];
  if (ended.resource == stage::Resource::compute) ended.account->computing = false;
  tasks_[next_] = tasks_.back();
  tasks_.pop_back();
  set_speeds();
  return ended;
}

void HostTime::advance(double now) {
  const double passed = now - now_;
  now_ = now;
  if (passed <= 0) return;
  for (RunningTask& task : tasks_) {
    task.left -= passed * task.speed;
    if (!task.is_counted) continue;
    const auto a = static_cast<std::size_t>(task.activity);
    task.account->totals.seconds[a] += passed;
    if (!task.account->computing) task.account->totals.exposed[a] += passed;
  }
}

void HostTime::set_speeds() {
  double cores = 0;
  double memory = 0;
  double link = 0;
  double disk = 0;
  for (const RunningTask& task : tasks_) {
    cores += task.cost.core_seconds / task.cost.seconds;
    memory += task.cost.memory_bytes / task.cost.seconds;
    link += task.cost.link_seconds / task.cost.seconds;
    disk += task.cost.disk_seconds / task.cost.seconds;
  }
  const double of_cores = granted(cores, cores_);
  const double of_memory = granted(memory, memory_rate_);
  const double of_link = granted(link, 1);
  const double of_disk = granted(disk, 1);
  next_end_ = kNever;
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    RunningTask& task = tasks_[i];
    const TaskCost& cost = task.cost;
    double speed = cost.core_seconds > 0 ? of_cores : 1;
    if (of_memory < 1) {
      const double part = cost.memory_bytes / memory_rate_ / cost.seconds;
      speed = std::min(speed, slowed(std::min(part, 1.0), of_memory));
    }
    if (of_link < 1) speed = std::min(speed, slowed(cost.link_seconds / cost.seconds, of_link));
    if (of_disk < 1) speed = std::min(speed, slowed(cost.disk_seconds / cost.seconds, of_disk));
    if (!task.prices->shares_cores()) {
      for (const RunningTask& other : tasks_) {
        if (other.stage != task.stage || &other == &task) continue;
        speed = std::min(speed, 1 / task.prices->slowdown(task.resource, other.resource));
      }
    }
    // What waits for the user's limit has time to spare.
    if (cost.least_seconds > 0) speed = std::min(1.0, speed * cost.seconds / cost.least_seconds);
    task.speed = speed;
    const double end = now_ + std::max(task.left, 0.0) / speed;
    if (end >= next_end_) continue;
    next_end_ = end;
    next_ = i;
  }
}

}  // namespace sluice::launcher
