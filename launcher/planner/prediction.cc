#include "launcher/planner/prediction.h"

#include <algorithm>
#include <cmath>

#include "stage/pass_shape.h"
#include "stage/schedule.h"

namespace sluice::launcher {

namespace {

/// Tasks that are simulated in about a tenth of a second.
constexpr double kMostTasks = 200'000;
/// A part of a job shows what the whole is like if all slots are filled a few times.
constexpr std::size_t kFills = 4;

double tasks_of_a_step(const SimulatedJob& job) {
  double tasks = 0;
  for (std::size_t s = 0; s < job.stages.size(); ++s) {
    stage::ScheduleShape shape = stage::schedule_shape(job.stages[s], job.placements[s]);
    stage::set_pass(shape, job.stages[s], stage::decode_pass(job.stages[s], 2),
                    [](std::int32_t) { return offload::Tier::device; });
    std::vector<stage::Task> list;
    stage::build_schedule(shape, list);
    tasks += static_cast<double>(list.size());
  }
  return tasks;
}

/// So many of the first requests are simulated; at least those that fill the slots a few times.
std::size_t most_requests(const SimulatedJob& job) {
  const stage::Batching& batching = job.stages.front().batching;
  const auto stages = static_cast<std::int32_t>(job.stages.size());
  const auto slots = static_cast<double>(batching.slots(stages));
  double steps = 0;
  for (const SimulatedRequest& request : job.requests) steps += request.new_tokens + 1;
  steps /= static_cast<double>(job.requests.size());
  const double passes = kMostTasks / tasks_of_a_step(job);
  const double fills = passes / (steps * batching.micro_batches_for(stages));
  return static_cast<std::size_t>(slots * std::max(fills, double{kFills}));
}

Prediction prediction_of(const SimulatedRun& run) {
  return {run.run.wall_seconds, run.run.prefill_seconds, run.run.decode_seconds};
}

}  // namespace

std::vector<SimulatedRequest> requests_of(const JobScan& scan, std::size_t most) {
  std::vector<SimulatedRequest> requests;
  if (scan.looked_at.empty()) return requests;
  const auto count = std::min(most, static_cast<std::size_t>(std::max<std::int64_t>(scan.rows, 0)));
  requests.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const RowTokens& row = scan.looked_at[i % scan.looked_at.size()];
    requests.push_back({row.prompt, row.answer});
  }
  return requests;
}

bool predicts(const Machine& machine) {
  return !machine.device.products.empty() && machine.device.memory_read.known() &&
         machine.host_to_device.alone.known();
}

PredictedRun predict(SimulatedJob job, std::int64_t rows, const Machine& machine,
                     const SimulationOptions& options) {
  PredictedRun predicted;
  const auto all = static_cast<std::size_t>(std::max<std::int64_t>(rows, 1));
  const std::size_t part = std::min({most_requests(job), job.requests.size(), all});
  job.requests.resize(part);
  if (part == all) {
    predicted.simulated = simulate(job, machine, options);
    predicted.prediction = prediction_of(predicted.simulated);
    return predicted;
  }
  predicted.is_whole = false;
  predicted.simulated = simulate(job, machine, options);
  const Prediction whole = prediction_of(predicted.simulated);
  const std::size_t half = part / 2;
  Prediction first;
  if (half > 0) {
    job.requests.resize(half);
    first = prediction_of(simulate(job, machine, options));
  }
  // The second half is free of the pipeline's filling; that of its draining is in both.
  const double more = static_cast<double>(all - part) / static_cast<double>(part - half);
  const auto on = [more](double of_part, double of_half) {
    return of_part + more * std::max(of_part - of_half, 0.0);
  };
  predicted.prediction = {on(whole.total_seconds, first.total_seconds),
                          on(whole.prefill_seconds, first.prefill_seconds),
                          on(whole.decode_seconds, first.decode_seconds)};
  return predicted;
}

}  // namespace sluice::launcher
