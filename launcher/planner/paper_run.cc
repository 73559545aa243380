#include "launcher/planner/paper_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "kernels/device/error.h"
#include "launcher/config/sizes.h"
#include "launcher/planner/stage_places.h"
#include "offload/weights/weight_source.h"

namespace sluice::launcher {

namespace {

/// Any tensor is there, and none can be read.
class PaperSource final : public offload::WeightSource {
 public:
  PaperSource(DType stored, bool made_up, offload::Compression compression)
      : stored_(stored), made_up_(made_up), compression_(compression) {}

  offload::WeightInfo find(const offload::WeightSpec& spec) override {
    const auto next = static_cast<std::int32_t>(keys_.size());
    const std::int32_t key = keys_.emplace(spec.name, next).first->second;
    return {spec.kept_as(compression_, stored_), spec.rows, spec.columns, key, made_up_};
  }
  void read(const offload::WeightInfo&, std::uint64_t, std::size_t, void*,
            offload::IoGroup&) override {
    refuse();
  }
  void keep_on_disk(const offload::WeightInfo&, std::uint64_t, std::size_t) override { refuse(); }

 private:
  [[noreturn]] static void refuse() {
    throw Error(ExitStatus::failure, "weights on paper cannot be read (a bug of sluice)");
  }

  DType stored_;
  bool made_up_;
  offload::Compression compression_;
  std::map<std::string, std::int32_t> keys_;
};

/// What generate/rank.cc leaves free of a GPU.
std::uint64_t room_of_device(const Machine& machine) {
  const std::uint64_t memory = machine.device.memory;
  return memory - std::min(memory / 32, std::uint64_t{1} << 30U);
}

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

stage::StageLayout layout_of(const RunConfig& config, const std::vector<stage::StageConfig>& stages,
                             std::size_t stage, const PaperModel& model, const Machine& machine) {
  const bool is_cpu = machine.device.kind == "cpu";
  stage::StageLayout layout;
  layout.stage = static_cast<std::int32_t>(stage);
  layout.stages = static_cast<std::int32_t>(stages.size());
  layout.model = model.config;
  layout.config = stages[stage];
  layout.batching = config.batching;
  // A GPU computes in the type of the checkpoint's matrices.
  const bool is_half = model.stored == DType::f16 || model.stored == DType::bf16;
  layout.compute_dtype = !is_cpu && is_half ? model.stored : machine.device.compute_dtype;
  layout.device_samples = !is_cpu;
  layout.device_channel =
      !is_cpu && stages.size() > 1 && config.comm.transport != comm::Transport::mpi;
  std::uint64_t& budget = layout.config.budgets.bytes[0];
  if (!is_cpu && budget == 0) budget = room_of_device(machine);
  return layout;
}

}  // namespace

SimulatedJob paper_job(const RunConfig& config, const std::vector<stage::StageConfig>& stages,
                       const PaperModel& model, const Machine& machine,
                       std::vector<SimulatedRequest> requests) {
  if (requests.empty()) throw ConfigError("there are no prompts to simulate a run of");
  SimulatedJob job;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    stage::StageLayout layout = layout_of(config, stages, s, model, machine);
    fit_to_job(requests, layout.batching);
    PaperSource source(model.stored, config.weights == WeightsFrom::dummy,
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
