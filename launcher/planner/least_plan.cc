#include "launcher/planner/least_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

using offload::human_bytes;
using offload::Shares;
using offload::Tier;

/// A tier of a stage that is too small.
struct Shortage {
  std::int32_t stage = 0;
  Tier tier = Tier::device;
  std::uint64_t wanted = 0;
  std::uint64_t there = 0;
  std::uint64_t missing = 0;
  std::uint64_t all = 0;  // missing in every tier of every stage together
};

PlanChoice smallest_choice(const PlanRequest& request, std::int32_t stages) {
  const Decided& decided = request.decided;
  PlanChoice choice;
  choice.batching = request.batching;
  stage::Batching& batching = choice.batching;
  batching.micro_batches = decided.micro_batches ? batching.micro_batches_for(stages) : 1;
  if (!decided.gpu_batch_size) batching.gpu_batch_size = 1;
  if (!decided.num_gpu_batches) batching.num_gpu_batches = 1;
  if (!decided.max_tokens) batching.max_tokens_per_gpu_batch = 16;
  batching.max_tokens_per_gpu_batch =
      std::max(batching.max_tokens_per_gpu_batch, batching.gpu_batch_size);
  choice.cpu_cache_compute =
      decided.cpu_cache_compute && request.stages.front().policy.cpu_cache_compute;
  choice.compress_weight = *std::ranges::max_element(request.compressions);
  choice.cache_dtype = request.cache_dtypes.back();
  return choice;
}

/// With what is not decided in `weights` and `cache`.
std::vector<stage::StageConfig> stages_with(PlanBuilder& builder, const PlanChoice& choice,
                                            const Shares& weights, const Shares& cache) {
  const PlanRequest& request = builder.papers().request();
  const std::vector<std::int32_t> layers = builder.even_layers();
  std::vector<stage::StageConfig> stages = request.stages;
  std::int32_t next = 0;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    stages[s].policy = builder.policy_of(static_cast<std::int32_t>(s), choice);
    if (!request.decided.weights) stages[s].policy.weights = weights;
    if (!request.decided.cache) stages[s].policy.cache = cache;
    stages[s].layers = layers[s];
    stages[s].first_layer = next;
    next += layers[s];
  }
  return stages;
}

/// The worst tier of all stages.
Shortage shortage_of(StagePapers& papers, const PlanChoice& choice,
                     const std::vector<stage::StageConfig>& stages) {
  Shortage worst;
  std::uint64_t all = 0;
  for (std::int32_t s = 0; s < papers.stages(); ++s) {
    const stage::StageLayout layout =
        papers.layout(s, stages[static_cast<std::size_t>(s)], choice.batching);
    const offload::MemoryPlan plan = stage::plan_memory(layout, papers.placement(layout));
    const StageRoom room = papers.room(s);
    const auto missing = StagePapers::missing(plan, room);
    for (std::size_t t = 0; t < missing.size(); ++t) {
      all += missing[t];
      if (missing[t] <= worst.missing) continue;
      const auto tier = static_cast<Tier>(t);
      const bool both = room.shared && tier == Tier::host && room.host_memory < room.tier[t];
      worst = {s, tier, plan.total(tier) + (both ? plan.total(Tier::device) : 0),
               both ? room.host_memory : room.tier[t], missing[t]};
    }
  }
  worst.all = all;
  return worst;
}

}  // namespace

Plan least_plan(PlanBuilder& builder) {
  const PlanRequest& request = builder.papers().request();
  const PlanChoice choice = smallest_choice(request, builder.papers().stages());
  std::optional<Shortage> least;
  for (const Shares& weights : {Shares{100, 0, 0}, Shares{0, 100, 0}, Shares{0, 0, 100}}) {
    for (const Shares& cache : {Shares{100, 0, 0}, Shares{0, 100, 0}, Shares{0, 0, 100}}) {
      const auto stages = stages_with(builder, choice, weights, cache);
      if (auto plan = builder.build(choice, stages)) return *std::move(plan);
      const Shortage found = shortage_of(builder.papers(), choice, stages);
      if (!least || found.all < least->all) least = found;
    }
  }
  throw CapacityError(fmt::format(
      "machine '{}': no plan fits: the smallest needs {} of {} memory for stage {}, and {} are "
      "there, so that {} ({} bytes) are missing; use more stages, a machine with more memory, or "
      "allow compression (--allow-compression 4bit)",
      request.machine->name, human_bytes(least->wanted), offload::name_of(least->tier),
      least->stage, human_bytes(least->there), human_bytes(least->missing), least->missing));
}

}  // namespace sluice::launcher
