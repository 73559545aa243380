#include "launcher/generate/auto_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <set>
#include <string>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "launcher/planner/machine_file.h"
#include "launcher/planner/plan_command.h"
#include "launcher/planner/plan_config.h"
#include "launcher/planner/plan_search.h"
#include "launcher/planner/plan_text.h"
#include "launcher/planner/prediction.h"

namespace sluice::launcher {

namespace {

/// Whether the run's engine will be of the kind that was measured.
bool is_of_kind(const Machine& machine, const std::string& device) {
  const bool finds_gpu = kernels::seeks_cuda() && kernels::has_cuda_driver();
  const bool wants_gpu = device.starts_with("cuda") || (device == "auto" && finds_gpu);
  return wants_gpu == (machine.device.kind != "cpu");
}

void place_ranks(const comm::World& world, Machine& machine) {
  std::set<std::string> hosts;
  for (const auto& host : world.hosts()) hosts.insert(host.name);
  machine.hosts = std::max(static_cast<std::int32_t>(hosts.size()), 1);
  machine.devices = std::max(world.ranks_on_host(), 1);
}

}  // namespace

std::optional<Plan> plan_open_run(const RunConfig& config, const OpenedModel& model,
                                  const JobScan& scan, const comm::World& world) {
  if (!leaves_policy_open(config)) return std::nullopt;
  std::optional<Machine> machine = find_machine(config.machine);
  if (!machine || !predicts(*machine)) return std::nullopt;
  if (!is_of_kind(*machine, config.stage_defaults.device)) return std::nullopt;
  place_ranks(world, *machine);
  fit_to_available_memory(*machine);
  const auto say = [&config](const std::string& line) {
    if (!config.report.quiet) std::cerr << "sluice: " + line + '\n';
  };
  try {
    const PlanRequest request =
        plan_request(config, model, *machine, world.size(), job_of(config, scan));
    Plan plan = search_plans(request).plans.front();
    say(
        fmt::format("nothing says where bytes live, so this is planned: {} (sluice plan says why; "
                    "--percent or --gpu-batch-size decide)",
                    plan_line(plan)));
    return plan;
  } catch (const CapacityError& problem) {
    say(fmt::format("{}; going on with the defaults", problem.what()));
    return std::nullopt;
  }
}

}  // namespace sluice::launcher
