#include "launcher/planner/draft_paper.h"

#include <optional>
#include <utility>

#include "launcher/planner/paper_run.h"
#include "stage/draft_model.h"

namespace sluice::launcher {

namespace {

using offload::Tier;

/// One rank, everything in device memory.
RunConfig config_of(const RunConfig& config) {
  RunConfig own = config;
  own.model = config.draft.model;
  own.draft = {};
  own.lora.clear();  // they are the target's
  own.stages.assign(1, {});
  own.stages.front().policy.compress_weight = config.draft.compress_weight;
  return own;
}

OpenedModel open(const RunConfig& config) {
  ModelFolder folder = open_model(config.model);
  if (config.weights == WeightsFrom::checkpoint) return open_checkpoint(std::move(folder));
  return {std::move(folder), std::nullopt, {}};
}

}  // namespace

DraftPaper::DraftPaper(const RunConfig& config, const Machine& machine)
    : config_(config_of(config)), opened_(open(config_)), machine_(machine) {
  config_.stages.front().layers = opened_.folder.config.layers;
}

offload::PerTier<std::uint64_t> DraftPaper::bytes(const stage::Batching& batching,
                                                  std::int32_t stages) {
  config_.batching = stage::draft_batching(batching, stages, opened_.folder.config.max_positions);
  const stage::Batching& own = config_.batching;
  const Key key = {own.micro_batches,       own.num_gpu_batches,
                   own.gpu_batch_size,      own.max_tokens_per_gpu_batch,
                   own.max_sequence_tokens, batching.draft_tokens};
  const auto [entry, is_new] = known_.try_emplace(key);
  if (!is_new) return entry->second;
  const SimulatedJob job = paper_job(config_, config_.stages, opened_, machine_, {{1, 0}});
  const offload::MemoryPlan plan = stage::plan_memory(job.stages.front(), job.placements.front());
  for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
    entry->second[static_cast<std::size_t>(tier)] = plan.total(tier);
  }
  entry->second[static_cast<std::size_t>(Tier::host)] +=
      stage::DraftModel::memory_bytes(own, batching.draft_tokens);
  return entry->second;
}

}  // namespace sluice::launcher
