#include "launcher/planner/prediction.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "launcher/planner/steady_state.h"
#include "stage/pass_shape.h"
#include "stage/schedule.h"

namespace sluice::launcher {

namespace {

/// How much of a job is simulated.
struct Part {
  double tasks = 0;       // about so many ...
  std::size_t fills = 1;  // ... but requests that fill all slots so many times
};
/// A part of a job shows what the whole is like if all slots are filled a few times.
constexpr Part kTenthOfASecond = {200'000, 4};
constexpr Part kASecond = {2'000'000, 4};
constexpr Part kLeastPart = {200'000, 1};

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

std::size_t requests_of(const Part& part, const SimulatedJob& job) {
  const stage::Batching& batching = job.stages.front().batching;
  const auto stages = static_cast<std::int32_t>(job.stages.size());
  const auto slots = static_cast<double>(batching.slots(stages));
  double steps = 0;
  for (const SimulatedRequest& request : job.requests) steps += request.new_tokens + 1;
  steps /= static_cast<double>(job.requests.size());
  const double passes = part.tasks / tasks_of_a_step(job);
  const double fills = passes / (steps * batching.micro_batches_for(stages));
  return static_cast<std::size_t>(slots * std::max(fills, static_cast<double>(part.fills)));
}

/// Adds to a part of a run so many times what it has more than its first half.
class Extrapolation {
 public:
  explicit Extrapolation(double times) : times_(times) {}

  void go_on(stage::RunReport& run, const stage::RunReport& half) const {
    using Report = stage::RunReport;
    for (const auto count :
         {&Report::requests, &Report::failed, &Report::cancelled, &Report::prompt_tokens,
          &Report::completion_tokens, &Report::decode_tokens, &Report::stepped_back,
          &Report::recomputed_tokens, &Report::shared_prefix_tokens}) {
      run.*count += static_cast<std::uint64_t>(
          std::llround(more(static_cast<double>(run.*count), static_cast<double>(half.*count))));
    }
    for (const auto seconds :
         {&Report::wall_seconds, &Report::prefill_seconds, &Report::decode_seconds}) {
      run.*seconds += more(run.*seconds, half.*seconds);
    }
  }
  void go_on(stage::PhaseReport& phase, const stage::PhaseReport& half) const {
    CountedPhase added = counted(phase);
    const CountedPhase before = counted(half);
    for (std::size_t i = 0; i < added.size(); ++i) added[i] = more(added[i], before[i]);
    add(phase, added);
  }

 private:
  double more(double part, double half) const {
    return std::min(times_ * std::max(part - half, 0.0), kMost);
  }

  static constexpr double kMost = 9e18;  // that an integer can count
  double times_;
};

PredictedRun predict_by(const Part& of_job, SimulatedJob job, std::int64_t rows,
                        const Machine& machine, const SimulationOptions& options) {
  PredictedRun predicted;
  const auto all = static_cast<std::size_t>(std::max<std::int64_t>(rows, 1));
  const std::size_t part = std::min({requests_of(of_job, job), job.requests.size(), all});
  predicted.is_whole = part == all;
  predicted.rows_simulated = static_cast<std::int64_t>(part);
  job.requests.resize(part);
  SimulatedRun& run = predicted.simulated = simulate(job, machine, options);
  if (!predicted.is_whole) {
    // The second half is free of the pipeline's filling; that of its draining is in both.
    const std::size_t half = part / 2;
    SimulatedRun first;
    job.requests.resize(half);
    if (half > 0) first = simulate(job, machine, options);
    first.stages.resize(run.stages.size());
    const Extrapolation rest(static_cast<double>(all - part) / static_cast<double>(part - half));
    rest.go_on(run.run, first.run);
    for (std::size_t s = 0; s < run.stages.size(); ++s) {
      rest.go_on(run.stages[s].run, first.stages[s].run);
      rest.go_on(run.stages[s].decode, first.stages[s].decode);
    }
  }
  predicted.prediction = {run.run.wall_seconds, run.run.prefill_seconds, run.run.decode_seconds};
  return predicted;
}

/// All rows of the mean lengths: decode steps that are alike need not all be simulated.
void make_alike(std::vector<SimulatedRequest>& requests) {
  std::int64_t prompts = 0;
  std::int64_t answers = 0;
  std::int64_t shared = 0;
  for (const SimulatedRequest& request : requests) {
    prompts += request.prompt_tokens;
    answers += request.new_tokens;
    shared += std::min(request.shared_tokens, request.prompt_tokens);
  }
  const auto count = static_cast<std::int64_t>(requests.size());
  const auto mean = [count](std::int64_t sum) {
    return static_cast<std::int32_t>((sum + count / 2) / count);
  };
  std::ranges::fill(requests,
                    SimulatedRequest{std::max(mean(prompts), 1), mean(answers), mean(shared)});
}

}  // namespace

std::vector<SimulatedRequest> requests_of(const JobScan& scan, std::size_t most) {
  std::vector<SimulatedRequest> requests;
  if (scan.looked_at.empty()) return requests;
  const std::int64_t all = scan.sequences_of(std::max<std::int64_t>(scan.rows, 0));
  const auto count = std::min(most, static_cast<std::size_t>(all));
  requests.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const RowTokens& row = scan.looked_at[i % scan.looked_at.size()];
    requests.push_back({row.prompt, row.answer, row.shared});
  }
  return requests;
}

bool predicts(const Machine& machine) {
  return !machine.device.products.empty() && machine.device.memory_read.known() &&
         machine.host_to_device.alone.known();
}

PredictedRun predict(SimulatedJob job, std::int64_t rows, const Machine& machine,
                     const SimulationOptions& options) {
  return predict_by(kTenthOfASecond, std::move(job), rows, machine, options);
}

PredictedRun predict_patiently(SimulatedJob job, std::int64_t rows, const Machine& machine,
                               std::uint64_t most_events) {
  try {
    SimulationOptions options;
    options.most_events = most_events;
    return predict_by(kASecond, job, rows, machine, options);
  } catch (const TooManyEvents&) {
    make_alike(job.requests);
    PredictedRun predicted = predict_by(kLeastPart, std::move(job), rows, machine, {});
    predicted.is_alike = true;
    return predicted;
  }
}

}  // namespace sluice::launcher
