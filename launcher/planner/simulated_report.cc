#include "launcher/planner/simulated_report.h"

#include <algorithm>
#include <string>

namespace sluice::launcher {

namespace {

double limited(double rate, double gbps) {
  return gbps > 0 ? (rate > 0 ? std::min(rate, gbps * 1e9) : gbps * 1e9) : rate;
}

double best_product(const Machine& machine) {
  double best = 0;
  for (const auto& [storage, curve] : machine.device.products) {
    for (const RateCurve::Point& point : curve.points) best = std::max(best, point.rate.value);
  }
  return best;
}

double last_rate(const RateCurve& curve) {
  return curve.points.empty() ? 0 : curve.points.back().rate.value;
}

}  // namespace

stage::StageReport simulated_report(const stage::StageLayout& layout,
                                    const std::vector<offload::GroupPlacement>& placement,
                                    const Machine& machine, std::int32_t host) {
  using offload::Tier;
  stage::StageReport report;
  report.rank = layout.stage;
  report.host = "host " + std::to_string(host);
  report.device = machine.device.name;
  const offload::MemoryPlan plan = stage::plan_memory(layout, placement);
  if (plan.total(Tier::disk) > 0) report.disk = machine.disk.folder;
  if (layout.stages > 1) report.transport = layout.device_channel ? "nccl" : "mpi";
  report.first_layer = layout.config.first_layer;
  report.layers = layout.config.layers;
  report.cache_dtype = name_of(layout.cache_dtype());
  report.measures_stalls = true;
  report.plan = plan.reservations();
  std::uint64_t all = 0;
  for (const offload::GroupPlacement& group : placement) all += group.total_bytes();
  for (std::size_t t = 0; t < offload::kTierCount; ++t) {
    const Tier tier = static_cast<Tier>(t);
    report.tiers[t] = {layout.config.budgets.bytes[t], plan.total(tier), plan.total(tier)};
    std::uint64_t bytes = 0;
    for (const offload::GroupPlacement& group : placement) bytes += group.bytes(tier);
    report.weight_share_asked[t] = layout.config.policy.weights.of(tier);
    report.weight_share_achieved[t] =
        all > 0 ? 100.0 * static_cast<double>(bytes) / static_cast<double>(all) : 0;
  }
  const stage::RateLimits& limits = layout.config.limits;
  report.rates.memory_read = machine.host.memory_read.value;
  report.rates.flop = best_product(machine);
  report.rates.host_to_device =
      limited(machine.host_to_device.alone.value, limits.host_to_device_gbps);
  report.rates.device_to_host =
      limited(machine.device_to_host.alone.value, limits.device_to_host_gbps);
  report.rates.disk_read = limited(last_rate(machine.disk.read), limits.disk_read_gbps);
  report.rates.disk_write = limited(last_rate(machine.disk.write), limits.disk_write_gbps);
  report.rates.device_read = machine.device.kind == "cpu" ? 0 : machine.device.memory_read.value;
  return report;
}

}  // namespace sluice::launcher
