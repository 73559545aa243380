#include "launcher/planner/job_seconds.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sluice::launcher {

namespace {

/// Times that all slots are filled.
double rounds_of(const PlannedJob& job, std::int32_t slots) {
  return std::max(1.0, static_cast<double>(job.rows) / slots);
}

}  // namespace

PassMix pass_mix(const PlannedJob& job) {
  PassMix mix;
  mix.prompt_tokens = std::max(1, static_cast<std::int32_t>(std::lround(job.mean_prompt())));
  const double context = job.mean_prompt() + job.mean_answer() / 2;
  mix.context = std::clamp(static_cast<std::int32_t>(std::lround(context)), 1,
                           std::max(job.longest_sequence, 1));
  return mix;
}

PassCounts pass_counts(const PlannedJob& job, const PassMix& mix, const stage::Batching& batching,
                       std::int32_t stages) {
  const double passes = rounds_of(job, batching.slots(stages)) * batching.micro_batches_for(stages);
  return {passes * prefill_passes(batching, mix), passes * std::max(job.mean_answer() - 1, 0.0)};
}

JobSeconds job_seconds(const PlannedJob& job, const PassMix& mix, const stage::Batching& batching,
                       const std::vector<double>& prefill, const std::vector<double>& decode,
                       double messages) {
  const auto stages = static_cast<std::int32_t>(prefill.size());
  const double in_flight = batching.micro_batches_for(stages);
  const PassCounts counts = pass_counts(job, mix, batching, stages);
  const double slowest = *std::ranges::max_element(prefill);
  // The first micro-batch goes through the other stages before the last stage has work.
  const double fill = std::accumulate(prefill.begin(), prefill.end(), messages) - slowest;
  // A token comes back before the next step of its micro-batch begins.
  const double step = std::max(*std::ranges::max_element(decode),
                               std::accumulate(decode.begin(), decode.end(), messages) / in_flight);
  JobSeconds seconds;
  seconds.prefill = counts.prefills * slowest + fill;
  seconds.decode = counts.decodes * step;
  seconds.total = seconds.prefill + seconds.decode;
  seconds.latency = seconds.total / rounds_of(job, batching.slots(stages));
  return seconds;
}

}  // namespace sluice::launcher
