#include "stage/stage_memory.h"

#include <algorithm>
#include <limits>

#include "offload/disk/disk_engine.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_pools.h"
#include "stage/grammar_rows.h"
#include "stage/head.h"
#include "stage/pass.h"
#include "stage/pass_inbox.h"
#include "stage/prefix_tree.h"
#include "stage/sample_rows.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

}  // namespace

std::int64_t StageLayout::logit_rows() const {
  // Enough for the new tokens of every sequence of a GPU batch, within reason: more rows (large
  // batches, log-probabilities of prompts) go through the head in several chunks.
  return std::clamp<std::int64_t>(
      std::int64_t{batching.gpu_batch_size} * (1 + batching.draft_tokens), 1, 64);
}

std::int64_t StageLayout::logit_edits() const {
  return logit_rows() *
         TokenEdits::most(model.vocabulary, batching.max_sequence_tokens, batching.max_rule_words);
}

std::int64_t StageLayout::logit_mask_words() const {
  return batching.grammars ? logit_rows() * ((model.vocabulary + 31) / 32) : 0;
}

std::int32_t StageLayout::adapter_rank() const {
  std::int32_t rank = 0;
  if (!adapters) return rank;
  for (const AdapterSpec& adapter : *adapters) {
    for (const AdapterPart& part : adapter.parts) rank = std::max(rank, part.rank);
  }
  return rank;
}

std::vector<offload::GroupSpec> layer_specs(const StageLayout& layout) {
  std::vector<offload::GroupSpec> specs;
  if (layout.first()) specs.push_back(embedding_group(layout.model));
  for (std::int32_t i = 0; i < layout.config.layers; ++i) {
    const std::int32_t layer = layout.config.first_layer + i;
    if (layout.config.policy.mlp_once) {
      specs.push_back(attention_group(layout.model, layer));
      specs.push_back(mlp_group(layout.model, layer));
    } else {
      specs.push_back(layer_group(layout.model, layer));
    }
  }
  if (layout.last()) specs.push_back(head_group(layout.model));
  return specs;
}

offload::KvShape kv_shape(const StageLayout& layout) {
  offload::KvShape shape;
  shape.layers = layout.config.layers;
  shape.slots = layout.batching.slots(layout.stages);
  shape.tokens_per_slot = layout.batching.max_sequence_tokens;
  shape.usual_tokens_per_slot = layout.batching.usual_sequence_tokens;
  shape.gpu_batches = layout.batching.num_gpu_batches;
  shape.gpu_batch_size = layout.batching.gpu_batch_size;
  shape.tokens_per_gpu_batch = layout.batching.max_tokens_per_gpu_batch;
  shape.query_heads = layout.model.attention.query_heads;
  shape.kv_heads = layout.model.attention.kv_heads;
  shape.head_dim = layout.model.attention.head_width;
  shape.pool_pages = layout.cache_pages;
  shape.compute_dtype = layout.compute_dtype;
  if (layout.batching.share_prefixes) {
    shape.prefix_bytes_per_page =
        (layout.first() ? PrefixTree::bytes_per_page(shape.page_tokens) : 0) +
        (layout.last() ? PrefixTokens::kBytesPerPage : 0);
  }
  for (std::int32_t i = 0; i < shape.layers && !layout.model.attention.windows.empty(); ++i) {
    shape.windows.push_back(layout.model.attention.window_of(layout.config.first_layer + i));
  }
  return shape;
}

std::int32_t prefix_pages(const StageLayout& layout) {
  if (!layout.batching.share_prefixes) return 0;
  return offload::KvLayout(kv_shape(layout), layout.config.policy).most_prefixes();
}

offload::ActivationShape activation_shape(const StageLayout& layout) {
  return {layout.batching.num_gpu_batches, layout.tokens(), layout.model.hidden,
          layout.compute_dtype, layout.config.policy.mlp_once};
}

namespace {

void plan_weights(const StageLayout& layout, const std::vector<offload::GroupPlacement>& layers,
                  offload::MemoryPlan& plan) {
  offload::WeightStream::plan(layers, {layout.config.policy.weight_slots, nullptr}, plan);
  AdapterWeights::plan(layout, plan);
}

void plan_activations(const StageLayout& layout, offload::MemoryPlan& plan) {
  offload::ActivationStore::plan(activation_shape(layout), layout.config.policy.activations, plan);
  const WorkspaceBytes workspace = workspace_bytes(layout);
  plan.reserve(offload::Tier::device, "workspace", workspace.device);
  plan.reserve(offload::Tier::host, "workspace", workspace.host);
  if (workspace.control > 0)
    plan.reserve(offload::Tier::host, offload::kControl, workspace.control);
  if (workspace.histories > 0) plan.reserve(offload::Tier::host, "histories", workspace.histories);
  plan.reserve(offload::Tier::host, "passes", pass_memory(layout));
  if (grammar_memory(layout) > 0) {
    plan.reserve(offload::Tier::host, "grammars", grammar_memory(layout));
  }
  for (std::size_t tier = 0; tier < layout.draft_bytes.size(); ++tier) {
    if (layout.draft_bytes[tier] == 0) continue;
    plan.reserve(static_cast<offload::Tier>(tier), "draft model", layout.draft_bytes[tier]);
  }
  if (layout.engine_bytes > 0) plan.reserve(offload::Tier::device, "kernels", layout.engine_bytes);
}

}  // namespace

std::uint64_t checksum_bytes(const offload::MemoryPlan& plan) {
  return offload::DiskEngine::checksum_bytes(plan.total(offload::Tier::disk));
}

std::uint64_t grammar_memory(const StageLayout& layout) {
  constexpr std::uint64_t kTrieBytesOfAToken = 64;
  if (!layout.batching.grammars || !layout.last()) return 0;
  return kGrammarRoom + static_cast<std::uint64_t>(layout.model.vocabulary) * kTrieBytesOfAToken;
}

std::uint64_t pass_memory(const StageLayout& layout) {
  const Batching& batching = layout.batching;
  const std::uint64_t message = max_pass_bytes(batching, layout.stages);
  // A decoded pass has the same content as its message, and less around it.
  std::uint64_t bytes = PassInbox::kPasses * message + message;
  if (!layout.last()) bytes += 2 * message;  // forwarded
  if (layout.last()) {
    const std::uint64_t tokens =
        std::uint64_t(batching.num_gpu_batches) * std::uint64_t(batching.max_tokens_per_gpu_batch);
    bytes += 2 * tokens * sizeof(LogitRow) + 2 * max_results_bytes(batching);
  }
  if (layout.first()) {
    bytes += head_memory(batching, layout.stages);
    // LookUpDrafter's tokens that are alike.
    const std::uint64_t of_token = batching.draft_tokens > 0 ? sizeof(std::int32_t) : 0;
    bytes += of_token * static_cast<std::uint64_t>(layout.model.vocabulary);
  }
  return bytes;
}

void fit_cache(StageLayout& layout, const std::vector<offload::GroupPlacement>& layers) {
  offload::MemoryPlan beside;
  plan_weights(layout, layers, beside);
  plan_activations(layout, beside);
  offload::PerTier<std::uint64_t> room = {};
  for (std::size_t tier = 0; tier < room.size(); ++tier) {
    const std::uint64_t budget = layout.config.budgets.bytes[tier];
    room[tier] = budget == 0
                     ? kNoLimit
                     : budget - std::min(budget, beside.total(static_cast<offload::Tier>(tier)));
  }
  layout.cache_pages = {};
  // The cache's part of the disk is not known yet. It is at most what is free, and at most what the
  // cache can use.
  offload::MemoryPlan whole = beside;
  offload::KvCache::plan(kv_shape(layout), layout.config.policy, whole);
  const std::uint64_t disk_budget =
      layout.config.budgets.bytes[static_cast<std::size_t>(offload::Tier::disk)];
  std::uint64_t sums = checksum_bytes(whole);
  if (disk_budget > 0) sums = std::min(sums, offload::DiskEngine::checksum_bytes(disk_budget));
  std::uint64_t& host = room[static_cast<std::size_t>(offload::Tier::host)];
  if (host != kNoLimit) host -= std::min(host, sums);
  layout.cache_pages = offload::fit_kv_pools(kv_shape(layout), layout.config.policy, room);
}

offload::MemoryPlan plan_memory(const StageLayout& layout,
                                const std::vector<offload::GroupPlacement>& layers) {
  offload::MemoryPlan plan;
  plan_weights(layout, layers, plan);
  offload::KvCache::plan(kv_shape(layout), layout.config.policy, plan);
  plan_activations(layout, plan);
  if (const std::uint64_t sums = checksum_bytes(plan); sums > 0) {
    plan.reserve(offload::Tier::host, "checksums", sums);
  }
  return plan;
}

}  // namespace sluice::stage
