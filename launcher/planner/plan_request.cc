#include "launcher/planner/plan_request.h"

#include <algorithm>
#include <numeric>

namespace sluice::launcher {

PlannedJob PlannedJob::alike(std::int32_t prompt_tokens, std::int32_t new_tokens,
                             std::int64_t count) {
  PlannedJob job;
  job.rows = count;
  job.requests.assign(static_cast<std::size_t>(std::clamp<std::int64_t>(count, 1, kMostRequests)),
                      {prompt_tokens, new_tokens});
  job.longest_sequence = job.usual_sequence = prompt_tokens + new_tokens;
  return job;
}

double PlannedJob::mean_prompt() const {
  const double sum = std::accumulate(
      requests.begin(), requests.end(), 0.0,
      [](double total, const SimulatedRequest& one) { return total + one.prompt_tokens; });
  return sum / static_cast<double>(requests.size());
}

double PlannedJob::mean_answer() const {
  const double sum = std::accumulate(
      requests.begin(), requests.end(), 0.0,
      [](double total, const SimulatedRequest& one) { return total + one.new_tokens; });
  return sum / static_cast<double>(requests.size());
}

}  // namespace sluice::launcher
