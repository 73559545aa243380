#include "launcher/report/resources.h"

#include <algorithm>

namespace sluice::launcher {

namespace {

double seconds_of(const stage::PhaseReport& phase, Activity activity) {
  return phase.totals.seconds[static_cast<std::size_t>(activity)];
}

double or_unknown(double rate) { return rate > 0 ? rate : -1; }

constexpr Activity kResources[] = {
    Activity::disk_read, Activity::disk_write,   Activity::host_to_device, Activity::device_to_host,
    Activity::compute,   Activity::host_compute, Activity::send,           Activity::receive};

/// How long a resource was at work. For messages only the time that somebody waited for them is
/// known.
double busy_seconds(const stage::PhaseReport& phase, Activity activity) {
  return activity == Activity::send || activity == Activity::receive ? 0
                                                                     : seconds_of(phase, activity);
}

double measured_rate(const stage::MachineRates& rates, Activity activity) {
  switch (activity) {
    case Activity::disk_read:
      return or_unknown(rates.disk_read);
    case Activity::disk_write:
      return or_unknown(rates.disk_write);
    case Activity::host_to_device:
      return or_unknown(rates.host_to_device);
    case Activity::device_to_host:
      return or_unknown(rates.device_to_host);
    case Activity::compute:
      return or_unknown(rates.device_read != 0 ? rates.device_read : rates.memory_read);
    case Activity::host_compute:
      return or_unknown(rates.memory_read);
    default:
      return -1;
  }
}

}  // namespace

double ResourceUse::rate() const {
  return busy_seconds > 0 ? static_cast<double>(bytes) / busy_seconds : -1;
}

double ResourceUse::of_measured() const {
  if (!(busy_seconds > 0)) return -1;
  const double moving = measured_rate > 0 ? static_cast<double>(bytes) / measured_rate : -1;
  const double computing = measured_flop > 0 ? flop / measured_flop : -1;
  const double least = std::max(moving, computing);
  return least > 0 ? least / busy_seconds : -1;
}

std::vector<ResourceUse> resource_uses(const stage::StageReport& stage,
                                       const stage::PhaseReport& phase) {
  std::vector<ResourceUse> uses;
  for (const Activity activity : kResources) {
    const auto a = static_cast<std::size_t>(activity);
    ResourceUse use;
    use.name = name_of(activity);
    use.bytes = phase.totals.bytes[a];
    use.busy_seconds = busy_seconds(phase, activity);
    use.measured_rate = measured_rate(stage.rates, activity);
    if (activity == Activity::compute || activity == Activity::host_compute) {
      const bool host = activity == Activity::host_compute;
      const stage::ComputeWork& work = phase.work;
      use.bytes = host ? work.host_kv_bytes : work.weight_bytes + work.kv_bytes;
      use.flop = host ? work.host_flop : work.flop;
      // Beside a GPU the host's own is not known.
      use.measured_flop = host && stage.rates.device_read != 0 ? -1 : or_unknown(stage.rates.flop);
    }
    if (stage.measures_stalls && activity != Activity::compute && use.busy_seconds > 0) {
      use.hidden = std::clamp(1 - phase.totals.exposed[a] / use.busy_seconds, 0.0, 1.0);
    }
    if (use.bytes > 0 || use.busy_seconds > 0) uses.push_back(use);
  }
  return uses;
}

Bound bound_of(const stage::PhaseReport& phase) {
  Bound bound;
  for (const Activity activity : kResources) {
    const double seconds = busy_seconds(phase, activity);
    if (seconds > bound.seconds) bound = {name_of(activity), seconds, -1};
  }
  const double others =
      seconds_of(phase, Activity::stall_pass) + seconds_of(phase, Activity::stall_message);
  if (others > bound.seconds) bound = {"other stages", others, -1};
  const double executor = seconds_of(phase, Activity::stall_other);
  if (executor > bound.seconds) bound = {"the executor", executor, -1};
  if (phase.wall_seconds > 0) bound.of_wall = bound.seconds / phase.wall_seconds;
  return bound;
}

const stage::PhaseReport& steady_phase(const stage::StageReport& stage) {
  // Fewer passes than this are mostly a pipeline's filling and draining.
  constexpr std::uint64_t kEnoughPasses = 4;
  return stage.decode.passes >= kEnoughPasses ? stage.decode : stage.run;
}

}  // namespace sluice::launcher
