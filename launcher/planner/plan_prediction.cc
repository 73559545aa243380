#include "launcher/planner/plan_prediction.h"

#include <algorithm>

#include "launcher/planner/job_seconds.h"
#include "launcher/planner/prediction.h"

namespace sluice::launcher {

SimulatedJob simulated_job(StagePapers& papers, const Plan& plan) {
  const PlannedJob& job = papers.request().job;
  SimulatedJob simulated;
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    stage::StageLayout layout =
        papers.layout(static_cast<std::int32_t>(s), plan.stages[s].config, plan.batching);
    const Placement& placement = papers.placement(layout);
    stage::fit_cache(layout, placement);
    simulated.placements.push_back(placement);
    simulated.stages.push_back(std::move(layout));
  }
  simulated.requests = job.requests;
  if (job.rows == 0) {
    simulated.requests.assign(static_cast<std::size_t>(plan.slots()), job.requests.front());
  }
  return simulated;
}

double tasks_of(const PlanRequest& request, const Plan& plan) {
  constexpr double kFills = 4;  // of all slots: predict() makes do with them
  constexpr double kTasksOfLayer = 9;
  const PassMix mix = pass_mix(request.job);
  const stage::Batching& batching = plan.batching;
  const double rounds = std::clamp(static_cast<double>(plan.sequences) / plan.slots(), 1.0, kFills);
  const double passes =
      rounds * batching.micro_batches * (prefill_passes(batching, mix) + request.job.mean_answer());
  double layers = 0;
  for (const PlannedStage& stage : plan.stages) layers += stage.config.layers + 1;
  return passes * layers * batching.num_gpu_batches * kTasksOfLayer;
}

void predict(StagePapers& papers, Plan& plan) {
  const double rounds = plan.seconds.total / std::max(plan.seconds.latency, 1e-9);
  const Prediction predicted =
      predict(simulated_job(papers, plan), plan.sequences, *papers.request().machine).prediction;
  plan.seconds = {predicted.total_seconds, predicted.prefill_seconds, predicted.decode_seconds,
                  predicted.total_seconds / std::max(rounds, 1.0)};
  plan.simulated = true;
}

}  // namespace sluice::launcher
