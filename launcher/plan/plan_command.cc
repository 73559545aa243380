#include "launcher/plan/plan_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"
#include "launcher/config/config_yaml.h"
#include "launcher/generate/run_job.h"
#include "launcher/json/json.h"
#include "launcher/planner/plan_config.h"
#include "launcher/planner/plan_search.h"
#include "launcher/planner/plan_text.h"
#include "launcher/planner/plan_variants.h"
#include "launcher/planner/present_machine.h"
#include "launcher/report/report_file.h"

namespace sluice::launcher {

namespace {

/// Others may use this machine's memory, too.
Machine machine_to_plan_for(const RunConfig& config) {
  Machine machine = machine_for(config.machine, "a plan");
  if (config.machine.empty()) fit_to_available_memory(machine);
  return machine;
}

OpenedModel open_what_is_there(const RunConfig& config) {
  ModelFolder folder = open_model(config.model);
  const bool has_weights = config.weights == WeightsFrom::checkpoint && !folder.path.empty() &&
                           offload::Checkpoint::is_in(folder.path);
  if (has_weights) return open_checkpoint(std::move(folder));
  return {std::move(folder), std::nullopt, {}};
}

/// Without prompts the shape of FlexGen's benchmarks, or what the model has positions for.
RunConfig with_job(RunConfig config, std::int32_t positions) {
  JobConfig& job = config.job;
  if (job.has_dummy_prompts() || !job.input.empty() || !job.prompt.empty()) return config;
  if (job.gen_len == 0) job.gen_len = std::min(32, std::max(positions / 2, 1));
  job.prompt_len = std::clamp(positions - job.gen_len, 1, 512);
  return config;
}

std::int32_t stages_for(const RunConfig& config, const PlanArguments& arguments,
                        const Machine& machine, std::int32_t layers) {
  if (arguments.stages > 0) return arguments.stages;
  if (!config.stages.empty()) return static_cast<std::int32_t>(config.stages.size());
  const std::int64_t devices = std::int64_t{machine.hosts} * machine.devices;
  return static_cast<std::int32_t>(std::min<std::int64_t>(devices, layers));
}

template <typename T, typename Allowed>
void allow(const std::vector<T>& more, std::vector<Allowed>& allowed) {
  for (const Allowed one : more) {
    if (std::ranges::find(allowed, one) == allowed.end()) allowed.push_back(one);
  }
}

bool decides(const Decided& decided) {
  return decided.weights || decided.cache || decided.activations || decided.gpu_batch_size ||
         decided.num_gpu_batches || decided.micro_batches || decided.max_tokens || decided.layers;
}

/// A refusal with the plan that is found where nothing is decided.
[[noreturn]] void refuse_with_nearest(const PlanRequest& request, const CapacityError& problem) {
  if (!decides(request.decided)) throw problem;
  PlanRequest open = request;
  open.decided = {};
  std::string nearest;
  try {
    nearest = plan_line(search_plans(open).plans.front());
  } catch (const CapacityError&) {
    throw problem;
  }
  throw CapacityError(
      fmt::format("{}\nwithout what was decided this fits: {}", problem.what(), nearest));
}

Json json_of(const Plan& plan) {
  Json stages = Json::array();
  for (const PlannedStage& stage : plan.stages) {
    const auto bytes = [&](offload::Tier tier) { return stage.memory.total(tier); };
    stages.push_back({{"first_layer", stage.config.first_layer},
                      {"layers", stage.config.layers},
                      {"device_bytes", bytes(offload::Tier::device)},
                      {"host_bytes", bytes(offload::Tier::host)},
                      {"disk_bytes", bytes(offload::Tier::disk)},
                      {"prefill_pass_seconds", stage.prefill.seconds},
                      {"decode_pass_seconds", stage.decode.seconds},
                      {"prefill_bound", stage.prefill.binding},
                      {"decode_bound", stage.decode.binding}});
  }
  const stage::Batching& batching = plan.batching;
  return {{"format", "sluice-plan"},
          {"format_version", 1},
          {"prediction",
           {{"total_seconds", plan.seconds.total},
            {"prefill_seconds", plan.seconds.prefill},
            {"decode_seconds", plan.seconds.decode},
            {"error", nullptr}}},
          {"tokens_per_second", plan.tokens_per_second()},
          {"latency_seconds", plan.seconds.latency},
          {"sequences", plan.sequences},
          {"batching",
           {{"gpu_batch_size", batching.gpu_batch_size},
            {"num_gpu_batches", batching.num_gpu_batches},
            {"micro_batches", batching.micro_batches},
            {"max_tokens_per_gpu_batch", batching.max_tokens_per_gpu_batch}}},
          {"stages", std::move(stages)}};
}

void explain(const PlanRequest& request, const FoundPlans& found, std::ostream& out) {
  out << fmt::format("\nnext best, of {} choices that were looked at:\n", found.scored);
  for (std::size_t i = 1; i < std::min<std::size_t>(found.plans.size(), 6); ++i) {
    out << "  " << plan_line(found.plans[i]) << '\n';
  }
  out << '\n' << curve_text(found.curve) << '\n';
  out << variants_text(variants_of(request));
}

}  // namespace

void plan_run(const RunConfig& asked, const PlanArguments& arguments, std::ostream& out) {
  for (const auto& [file, flag] :
       {std::pair{&arguments.json, "--json"}, {&arguments.output, "--output"}}) {
    if (!file->empty()) check_writable(*file, flag);
  }
  const Machine machine = machine_to_plan_for(asked);
  const OpenedModel model = open_what_is_there(asked);
  const RunConfig config = with_job(asked, model.folder.config.max_positions);
  const std::int32_t stages = stages_for(config, arguments, machine, model.folder.config.layers);
  const RunJob run_job(config, model, 1, false);
  PlanRequest request =
      plan_request(config, model, machine, stages, job_of(config, run_job.scan()));
  allow(arguments.compressions, request.compressions);
  allow(arguments.cache_dtypes, request.cache_dtypes);
  request.latency_limit = arguments.latency_limit;
  FoundPlans found;
  try {
    found = search_plans(request);
  } catch (const CapacityError& problem) {
    refuse_with_nearest(request, problem);
  }
  const Plan& plan = found.plans.front();
  out << plan_text(request, plan);
  if (arguments.explain) explain(request, found, out);
  const std::string command = command_of(config, plan, arguments.output);
  out << (command.empty() ? std::string("\nrun it: its stages differ, so write it with --output "
                                        "plan.yaml, and give that to generate --config\n")
                          : "\nrun it:\n  " + command + '\n');
  if (!arguments.output.empty())
    write_report_file(arguments.output, to_yaml(with_plan(config, plan)));
  if (!arguments.json.empty()) write_report_file(arguments.json, json_of(plan).dump(2) + '\n');
}

}  // namespace sluice::launcher
