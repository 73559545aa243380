#include "launcher/planner/least_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
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
  std::uint64_t missing = 0;  // there; `all`: in every tier of every stage
  std::uint64_t all = 0;
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

/// With what is not decided in `weights` and `cache`. The worst tier of all stages.
Shortage shortage_of(PlanBuilder& builder, const PlanChoice& choice, const Shares& weights,
                     const Shares& cache) {
  StagePapers& papers = builder.papers();
  const PlanRequest& request = papers.request();
  const std::vector<std::int32_t> layers = builder.even_layers();
  Shortage worst;
  std::uint64_t all = 0;
  for (std::int32_t s = 0; s < papers.stages(); ++s) {
    stage::StageConfig config = request.stages[static_cast<std::size_t>(s)];
    config.policy = builder.policy_of(s, choice);
    if (!request.decided.weights) config.policy.weights = weights;
    if (!request.decided.cache) config.policy.cache = cache;
    config.layers = layers[static_cast<std::size_t>(s)];
    config.first_layer = std::accumulate(layers.begin(), layers.begin() + s, 0);
    const stage::StageLayout layout = papers.layout(s, config, choice.batching);
    const offload::MemoryPlan plan = stage::plan_memory(layout, papers.placement(layout));
    const StageRoom room = papers.room(s);
    const auto missing = StagePapers::missing(plan, room);
    for (std::size_t t = 0; t < missing.size(); ++t) {
      all += missing[t];
      if (missing[t] <= worst.missing) continue;
      const auto tier = static_cast<Tier>(t);
      const bool both = room.shared && tier == Tier::host;
      worst = {s, tier, plan.total(tier) + (both ? plan.total(Tier::device) : 0),
               both ? room.host_memory : room.tier[t], missing[t]};
    }
  }
  worst.all = all;
  return worst;
}

}  // namespace

void refuse_least(PlanBuilder& builder) {
  const PlanRequest& request = builder.papers().request();
  const PlanChoice choice = smallest_choice(request, builder.papers().stages());
  std::optional<Shortage> least;
  for (const Shares& weights : {Shares{100, 0, 0}, Shares{0, 100, 0}, Shares{0, 0, 100}}) {
    for (const Shares& cache : {Shares{100, 0, 0}, Shares{0, 100, 0}, Shares{0, 0, 100}}) {
      const Shortage found = shortage_of(builder, choice, weights, cache);
      if (!least || found.all < least->all) least = found;
    }
  }
  const Machine& machine = *request.machine;
  if (least->missing == 0) {
    throw CapacityError(fmt::format(
        "machine '{}': no plan fits, although single sequences would: what is decided (batching, "
        "policy) leaves no room; decide less",
        machine.name));
  }
  throw CapacityError(fmt::format(
      "machine '{}': no plan fits: the smallest needs {} of {} memory for stage {}, and {} are "
      "there, so that {} ({} bytes) are missing; use more stages, a machine with more memory, or "
      "allow compression (--allow-compression 4bit)",
      machine.name, human_bytes(least->wanted), offload::name_of(least->tier), least->stage,
      human_bytes(least->there), human_bytes(least->missing), least->missing));
}

}  // namespace sluice::launcher
