// The stages of a plan on paper: layouts, placements and memory exactly as a run would make them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "launcher/planner/cost_model.h"
#include "launcher/planner/plan_request.h"
#include "launcher/planner/shape_source.h"
#include "offload/memory_plan.h"
#include "stage/stage_memory.h"

namespace sluice::launcher {

using Placement = std::vector<offload::GroupPlacement>;

/// What a stage may take, in bytes. No limit: the largest number.
struct StageRoom {
  offload::PerTier<std::uint64_t> tier = {};
  std::uint64_t host_memory = 0;  // a CPU stage takes the tiers device and host from one memory
  bool shared = false;            // ... it does
};

class StagePapers {
 public:
  /// `request` must outlive it. Throws ConfigError where the machine has too few devices.
  explicit StagePapers(const PlanRequest& request);

  const PlanRequest& request() const { return request_; }
  std::int32_t stages() const { return static_cast<std::int32_t>(request_.stages.size()); }

  /// `config` as the run would have it; its first_layer and layers count.
  stage::StageLayout layout(std::int32_t stage, const stage::StageConfig& config,
                            const stage::Batching& batching) const;
  /// Stages of equal shapes share one, with the layers' names of the first that asked.
  const Placement& placement(const stage::StageLayout& layout);

  /// Stages of a host have equal parts of what they share.
  StageRoom room(std::int32_t stage) const;

  /// Of the stage's device: see kind_of().
  std::size_t device_kind(std::int32_t stage) const;

  CostModel cost(const stage::StageLayout& layout) const;
  /// Stages that share a host.
  std::int32_t on_host() const { return on_host_; }
  /// Latency of a pass' messages, from stage to stage and back to the head.
  double message_seconds() const;

  /// Bytes beyond the room: 0 in each tier where the plan fits.
  static offload::PerTier<std::uint64_t> missing(const offload::MemoryPlan& plan,
                                                 const StageRoom& room);
  static bool fits(const offload::MemoryPlan& plan, const StageRoom& room);

 private:
  const Machine& machine_of(std::int32_t stage) const { return kinds_[device_kind(stage)]; }

  const PlanRequest& request_;
  std::vector<Machine> kinds_;  // of devices
  DType compute_dtype_ = DType::f32;
  DType weight_dtype_ = DType::f32;
  std::int32_t on_host_ = 1;
  std::vector<std::unique_ptr<ShapeSource>> sources_;  // by Compression
  std::map<std::string, Placement> placements_;
};

}  // namespace sluice::launcher
