#include "launcher/generate/auto_plan.h"

#include <fmt/format.h>

#include <exception>
#include <iostream>
#include <string>

#include "kernels/engine.h"
#include "launcher/planner/machine_file.h"
#include "launcher/planner/plan_config.h"
#include "launcher/planner/plan_search.h"
#include "launcher/planner/plan_text.h"
#include "launcher/planner/prediction.h"
#include "launcher/planner/present_machine.h"

namespace sluice::launcher {

namespace {

/// Whether the run's engine will be of the kind that was measured.
bool is_of_kind(const Machine& machine, const std::string& device) {
  const bool finds_gpu = kernels::seeks_cuda() && kernels::has_cuda_driver();
  const bool wants_gpu = device.starts_with("cuda") || (device == "auto" && finds_gpu);
  return wants_gpu == (machine.device.kind != "cpu");
}

}  // namespace

std::optional<Plan> plan_open_run(const RunConfig& config, const OpenedModel& model,
                                  const JobScan& scan, const comm::World& world) {
  const bool nothing_left = scan.rows > 0 && scan.answered >= scan.rows;
  if (!leaves_policy_open(config) || nothing_left) return std::nullopt;
  const auto say = [&config](const std::string& line) {
    if (!config.report.quiet) std::cerr << "sluice: " + line + '\n';
  };
  try {
    const std::optional<Machine> found = find_machine(config.machine);
    if (!found || !predicts(*found)) return std::nullopt;
    if (!is_of_kind(*found, config.stage_defaults.device)) return std::nullopt;
    Machine machine = with_ranks_of(world, *found);
    fit_to_available_memory(machine);
    const PlanRequest request =
        plan_request(config, model, machine, world.size(), job_of(config, scan));
    Plan plan = search_plans(request).plans.front();
    say(
        fmt::format("nothing says where bytes live, so this is planned: {} (sluice plan says why; "
                    "--percent or --gpu-batch-size decide)",
                    plan_line(plan)));
    return plan;
  } catch (const std::exception& problem) {
    say(fmt::format("no plan was made; going on with the defaults: {}", problem.what()));
    return std::nullopt;
  }
}

}  // namespace sluice::launcher
