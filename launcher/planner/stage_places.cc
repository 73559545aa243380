#include "launcher/planner/stage_places.h"

#include <algorithm>

namespace sluice::launcher {

std::int32_t stages_on_host(const Machine& machine, std::int32_t stages) {
  return std::max(machine.devices, (stages - 1) / std::max(machine.hosts, 1) + 1);
}

std::size_t host_of_stage(const std::vector<stage::StageLayout>& stages, std::size_t stage,
                          const Machine& machine) {
  const auto count = static_cast<std::int32_t>(stages.size());
  return stage / static_cast<std::size_t>(stages_on_host(machine, count));
}

std::size_t kind_of_stage(const std::vector<stage::StageLayout>& stages, std::size_t stage,
                          const Machine& machine) {
  const auto count = static_cast<std::int32_t>(stages.size());
  return kind_of(machine, static_cast<std::int32_t>(stage) % stages_on_host(machine, count));
}

StagePlace place_of(const std::vector<stage::StageLayout>& stages, std::size_t stage,
                    const Machine& machine) {
  const std::size_t host = host_of_stage(stages, stage, machine);
  StagePlace place;
  place.ranks_on_host = 0;
  for (std::size_t other = 0; other < stages.size(); ++other) {
    if (host_of_stage(stages, other, machine) == host) ++place.ranks_on_host;
  }
  place.threads = stages[stage].config.threads;
  place.pinned = stages[stage].config.policy.pin_weight;
  place.next_on_same_host =
      stage + 1 == stages.size() || host_of_stage(stages, stage + 1, machine) == host;
  return place;
}

DType storage_of(const std::vector<offload::GroupPlacement>& placement) {
  const offload::TensorPlacement* largest = nullptr;
  for (const offload::GroupPlacement& group : placement) {
    if (group.layer < 0) continue;  // embedding and head may be stored otherwise
    for (const offload::TensorPlacement& tensor : group.tensors) {
      const auto elements = [](const offload::TensorPlacement& one) {
        return one.info.rows * one.info.columns;
      };
      if (largest == nullptr || elements(tensor) > elements(*largest)) largest = &tensor;
    }
  }
  return largest != nullptr ? largest->info.dtype : DType::f32;
}

double latency_between(const Machine& machine, bool same_host) {
  const Figure& near = machine.within_host.latency;
  const Figure& far = machine.between_hosts.latency;
  return (same_host ? near.known() : !far.known()) ? near.value : far.value;
}

}  // namespace sluice::launcher
