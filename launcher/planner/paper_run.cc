#include "launcher/planner/paper_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "kernels/device/error.h"
#include "launcher/config/sizes.h"
#include "launcher/machine/device_share.h"
#include "launcher/planner/draft_paper.h"
#include "launcher/planner/shape_source.h"
#include "launcher/planner/stage_places.h"

namespace sluice::launcher {

namespace {

/// Prompts are cut into chunks of the same pass, so lengths decide what the cache has room for.
void fit_to_job(const std::vector<SimulatedRequest>& requests, stage::Batching& batching) {
  std::int32_t longest = 1;
  for (const SimulatedRequest& request : requests) {
    longest = std::max(longest, request.prompt_tokens + request.new_tokens);
  }
  if (batching.max_sequence_tokens == 0) {
    batching.max_sequence_tokens = batching.usual_sequence_tokens = longest;
  }
}

bool guesses_by_model(const RunConfig& config) {
  return !config.draft.model.empty() && config.batching.draft_tokens > 0;
}

/// `machine`: that of the stage's kind of device.
stage::StageLayout layout_of(const RunConfig& config, const std::vector<stage::StageConfig>& stages,
                             std::size_t stage, const OpenedModel& model, const Machine& machine) {
  const bool is_cpu = machine.device.kind == "cpu";
  stage::StageLayout layout;
  layout.stage = static_cast<std::int32_t>(stage);
  layout.stages = static_cast<std::int32_t>(stages.size());
  layout.model = model.folder.config;
  layout.config = stages[stage];
  layout.batching = config.batching;
  layout.adapters = model.adapters.specs;
  // A GPU computes in the type of the checkpoint's matrices.
  const DType stored = weight_dtype(model);
  const bool is_half = stored == DType::f16 || stored == DType::bf16;
  layout.compute_dtype = !is_cpu && is_half ? stored : machine.device.compute_dtype;
  layout.device_samples = !is_cpu;
  layout.engine_bytes = is_cpu ? 0 : kCudaWorkspaceBytes;
  layout.device_channel =
      !is_cpu && stages.size() > 1 && config.comm.transport != comm::Transport::mpi;
  std::uint64_t& budget = layout.config.budgets.bytes[0];
  if (!is_cpu && budget == 0)
    budget = machine.device.memory - spare_device_bytes(machine.device.memory);
  return layout;
}

}  // namespace

SimulatedJob paper_job(const RunConfig& config, const std::vector<stage::StageConfig>& stages,
                       const OpenedModel& model, const Machine& machine,
                       std::vector<SimulatedRequest> requests) {
  if (requests.empty()) throw ConfigError("there are no prompts to simulate a run of");
  SimulatedJob job;
  const std::vector<Machine> kinds = kinds_of(machine);
  const std::int32_t on_host = stages_on_host(machine, static_cast<std::int32_t>(stages.size()));
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const std::size_t kind = kind_of(machine, static_cast<std::int32_t>(s) % on_host);
    stage::StageLayout layout = layout_of(config, stages, s, model, kinds[kind]);
    fit_to_job(requests, layout.batching);
    if (s == 0 && guesses_by_model(config)) {
      layout.draft_bytes = DraftPaper(config, kinds[kind]).bytes(layout.batching, layout.stages);
    }
    ShapeSource source(model, config.weights == WeightsFrom::dummy,
                       layout.config.policy.compress_weight);
    job.placements.push_back(
        offload::place_weights(stage::layer_specs(layout), layout.config.policy.weights, source));
    stage::fit_cache(layout, job.placements.back());
    job.stages.push_back(std::move(layout));
  }
  job.requests = std::move(requests);
  return job;
}

void check_capacity(const SimulatedJob& job, const Machine& machine) {
  std::map<std::size_t, std::uint64_t> of_hosts;
  for (std::size_t s = 0; s < job.stages.size(); ++s) {
    const offload::MemoryPlan plan = stage::plan_memory(job.stages[s], job.placements[s]);
    plan.check(job.stages[s].config.budgets, fmt::format("stage {}", s));
    std::uint64_t& sum = of_hosts[host_of_stage(job.stages, s, machine)];
    sum += plan.total(offload::Tier::host);
    if (machine.device.kind == "cpu") sum += plan.total(offload::Tier::device);
  }
  for (const auto& [host, wanted] : of_hosts) {
    if (machine.host.memory == 0 || wanted <= machine.host.memory) continue;
    throw CapacityError(fmt::format(
        "host {} of the machine '{}': its stages need {} of memory and it has {}; give more of "
        "the weights or of the cache to the disk (policy), or lower the batch",
        host, machine.name, format_size(wanted), format_size(machine.host.memory)));
  }
}

}  // namespace sluice::launcher
