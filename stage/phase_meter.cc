#include "stage/phase_meter.h"

namespace sluice::stage {

namespace {

void add_difference(ActivityTotals& sum, const ActivityTotals& now, const ActivityTotals& before) {
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    sum.seconds[a] += now.seconds[a] - before.seconds[a];
    sum.bytes[a] += now.bytes[a] - before.bytes[a];
    sum.exposed[a] += now.exposed[a] - before.exposed[a];
  }
}

void add(ComputeWork& sum, const ComputeWork& work) {
  sum.flop += work.flop;
  sum.weight_bytes += work.weight_bytes;
  sum.kv_bytes += work.kv_bytes;
  sum.host_flop += work.host_flop;
  sum.host_kv_bytes += work.host_kv_bytes;
}

}  // namespace

ActivityTotals totals_of(const Trace& trace) {
  ActivityTotals totals;
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    const auto activity = static_cast<Activity>(a);
    totals.seconds[a] = trace.busy_seconds(activity);
    totals.bytes[a] = trace.bytes(activity);
    totals.exposed[a] = trace.exposed_seconds(activity);
  }
  return totals;
}

void PhaseMeter::begin() {
  load_ = last_ = totals_of(trace_);
  last_time_ = now_();
}

void PhaseMeter::close_pass() {
  const ActivityTotals totals = totals_of(trace_);
  const Clock::time_point time = now_();
  const double seconds = std::chrono::duration<double>(time - last_time_).count();
  const auto close = [&](PhaseReport& phase) {
    phase.wall_seconds += seconds;
    if (in_pass_) ++phase.passes;
    add_difference(phase.totals, totals, last_);
    add(phase.work, work_);
  };
  close(run_);
  if (in_pass_ && decodes_) close(decode_);
  last_ = totals;
  last_time_ = time;
  in_pass_ = false;
  work_ = {};
}

void PhaseMeter::next_pass(bool decodes, const ComputeWork& work) {
  close_pass();
  in_pass_ = true;
  decodes_ = decodes;
  work_ = work;
}

void PhaseMeter::end() { close_pass(); }

}  // namespace sluice::stage
