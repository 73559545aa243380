#include "launcher/planner/plan_variants.h"

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "launcher/planner/plan_search.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {

namespace {

void times(Figure& figure, double factor) { figure.value *= factor; }
void times(RateCurve& curve, double factor) {
  for (RateCurve::Point& point : curve.points) point.rate.value *= factor;
}

Variant variant(const std::string& what, const PlanRequest& request) {
  try {
    SearchOptions options;
    options.built = 2;
    options.tasks = options.most_tasks = 0;
    return {what, search_plans(request, options).plans.front().tokens_per_second()};
  } catch (const CapacityError&) {
    return {what, 0};
  }
}

template <typename Change>
Variant with(const std::string& what, const PlanRequest& request, const Change& change) {
  Machine machine = *request.machine;
  PlanRequest changed = request;
  changed.machine = &machine;
  change(machine, changed);
  return variant(what, changed);
}

}  // namespace

std::vector<Variant> variants_of(const PlanRequest& request) {
  std::vector<Variant> variants = {variant("this machine", request)};
  const bool is_gpu = request.machine->device.kind != "cpu";
  const bool has_layers =
      std::cmp_less(request.stages.size(), request.decoder().layers) && !request.decided.layers;
  if (has_layers) {
    variants.push_back(with(is_gpu ? "one more GPU, on this host" : "one more stage, on this host",
                            request, [](Machine& machine, PlanRequest& changed) {
                              changed.stages.push_back(changed.stages.back());
                              ++machine.devices;
                            }));
    variants.push_back(
        with("one more host like it", request, [](Machine& machine, PlanRequest& changed) {
          changed.stages.push_back(changed.stages.back());
          ++machine.hosts;
        }));
  }
  variants.push_back(
      with("twice the host memory", request, [](Machine& machine, PlanRequest& changed) {
        machine.host.memory *= 2;
        for (stage::StageConfig& stage : changed.stages) stage.budgets.bytes[1] *= 2;
      }));
  if (is_gpu) {
    variants.push_back(
        with("twice the GPU memory", request, [](Machine& machine, PlanRequest& changed) {
          machine.device.memory *= 2;
          for (OtherDevices& other : machine.other_devices) other.device.memory *= 2;
          for (stage::StageConfig& stage : changed.stages) stage.budgets.bytes[0] *= 2;
        }));
  }
  variants.push_back(with("a disk twice as fast", request, [](Machine& machine, PlanRequest&) {
    times(machine.disk.read, 2);
    times(machine.disk.write, 2);
  }));
  variants.push_back(
      with("links twice as fast", request, [](Machine& machine, PlanRequest& changed) {
        const auto faster = [](LinkRates& link) {
          times(link.alone, 2);
          times(link.computing, 2);
        };
        faster(machine.host_to_device);
        faster(machine.device_to_host);
        for (OtherDevices& other : machine.other_devices) {
          faster(other.host_to_device);
          faster(other.device_to_host);
        }
        for (stage::StageConfig& stage : changed.stages) {
          stage.limits.host_to_device_gbps *= 2;
          stage.limits.device_to_host_gbps *= 2;
        }
      }));
  return variants;
}

std::string variants_text(const std::vector<Variant>& variants) {
  TextTable table("lrr", {"with", "tokens/s", "gain"});
  const double now = variants.front().tokens_per_second;
  for (const Variant& variant : variants) {
    const double rate = variant.tokens_per_second;
    const bool compares = rate > 0 && now > 0 && &variant != &variants.front();
    table.add({variant.what, rate > 0 ? fmt::format("{:.4g}", rate) : "does not fit",
               compares ? fmt::format("{:+.0f} %", 100 * (rate / now - 1)) : ""});
  }
  return "what would change it (estimates):\n" + table.text(2);
}

}  // namespace sluice::launcher
