#include "stage/pass_shape.h"

#include <algorithm>

#include "kernels/ops.h"
#include "offload/kv/kv_layout.h"

namespace sluice::stage {

namespace {

using offload::Tier;

/// Of n new tokens and those that they see: token i of i + 1, with a window no more than that.
double pairs_of(double position, double n, double window) {
  const double first = position + 1;  // that the first one sees
  if (window == 0 || first + n - 1 <= window) return n * position + n * (n + 1) / 2;
  const double growing = std::max(window - first, 0.0);  // tokens that see less than the window
  return growing * position + growing * (growing + 1) / 2 + (n - growing) * window;
}

/// How much of the values tokens of the answer take.
struct Sparsity {
  std::int32_t kept = 0;   // millionths; 0: all
  bool keys_only = false;  // values stay where they are
};

void add_values(CachedRows& rows, const PassRow& row, std::int32_t window, Sparsity sparsity,
                std::int64_t in_sight) {
  const std::int32_t kept = sparsity.kept;
  const std::int32_t dense =
      kept == 0 ? row.new_tokens
                : std::clamp(row.sampling.answer_begin - row.position, 0, row.new_tokens);
  const double taken = dense > 0 ? pairs_of(row.position, dense, window) : 0;
  std::int64_t read = 0;
  for (std::int64_t position = std::int64_t{row.position} + dense;
       position < std::int64_t{row.position} + row.new_tokens; ++position) {
    const std::int64_t old = window == 0 ? position : std::min<std::int64_t>(position, window - 1);
    read += kernels::kept_values(old, kept) + 1;
  }
  rows.values += dense > 0 ? in_sight : std::min(read, in_sight);
  rows.value_pairs += taken + static_cast<double>(read);
  rows.dense += dense > 0 ? 1 : 0;
  rows.sparse += dense < row.new_tokens ? 1 : 0;
}

void add_row(CachedRows& rows, const PassRow& row, std::int32_t window, Sparsity sparsity,
             std::int32_t page_tokens) {
  const std::int64_t history = row.position;
  const std::int64_t context = history + row.new_tokens;
  const std::int64_t in_sight =
      window == 0 ? context : std::min<std::int64_t>(context, window - 1 + row.new_tokens);
  const std::int32_t first_page = offload::first_page_in_sight(row.position, window, page_tokens);
  ++rows.sequences;
  rows.tokens += row.new_tokens;
  rows.context += in_sight;
  rows.pairs += pairs_of(row.position, row.new_tokens, window);
  const std::int64_t values = rows.values;
  add_values(rows, row, window, sparsity, in_sight);
  rows.history_pages += (history + page_tokens - 1) / page_tokens - first_page;
  rows.full_pages += history / page_tokens - first_page;
  rows.filled_pages += context / page_tokens - history / page_tokens;
  rows.partial += context % page_tokens != 0 ? 1 : 0;
  if (!sparsity.keys_only || history == 0 || row.sampling.answer_begin > history) return;
  ++rows.lean;
  rows.lean_pages += (history + page_tokens - 1) / page_tokens - first_page;
  rows.lean_values += std::max<std::int64_t>(rows.values - values - row.new_tokens, 0);
}

}  // namespace

std::int64_t logits_wanted(const PassRow& row) {
  return (row.sample ? 1 + row.drafted : 0) + row.end_scored() - row.first_scored() +
         row.features();
}

ScheduleShape schedule_shape(const StageLayout& layout,
                             const std::vector<offload::GroupPlacement>& groups) {
  const offload::Policy& policy = layout.config.policy;
  ScheduleShape shape;
  shape.first = layout.first();
  shape.last = layout.last();
  shape.layers = layout.config.layers;
  shape.by_device = layout.device_channel;
  shape.overlaps = policy.overlap;
  shape.mlp_once = policy.mlp_once;
  shape.ring = offload::WeightRing(groups, {}, static_cast<std::size_t>(policy.weight_slots));
  shape.host_attends = policy.cpu_cache_compute;
  shape.kept_millionths = policy.kept_millionths();
  shape.moves_hidden = policy.activations.device < 100.0;
  shape.hidden_on_disk = policy.activations.disk > 0;
  shape.cache_on_disk = policy.cache.disk > 0;
  const offload::KvLayout cache(kv_shape(layout), policy);
  shape.window = cache.reaches.back().window;
  shape.fetches_keys_only = cache.fetches_keys_only;
  shape.logit_rows = layout.logit_rows();
  for (const offload::GroupPlacement& group : groups) {
    shape.groups.push_back({group.slot_bytes() > 0, group.bytes(Tier::disk) > 0});
  }
  shape.gpu_batches.reserve(static_cast<std::size_t>(layout.batching.num_gpu_batches));
  return shape;
}

void set_pass(ScheduleShape& shape, const StageLayout& layout, const Pass& pass,
              const std::function<Tier(std::int32_t slot)>& tier_of) {
  const offload::Policy& policy = layout.config.policy;
  const std::int32_t page_tokens = offload::KvShape{}.page_tokens;
  shape.micro_batch = pass.micro_batch;
  shape.gpu_batches.clear();
  for (const PassRow& row : pass.rows) {  // sorted by GPU batch
    if (shape.gpu_batches.empty() || shape.gpu_batches.back().index != row.gpu_batch) {
      shape.gpu_batches.emplace_back().index = row.gpu_batch;
    }
    GpuBatchShape& batch = shape.gpu_batches.back();
    batch.tokens += row.new_tokens;
    batch.joins = batch.joins || row.prefix >= 0 || row.copies();
    batch.logits += shape.last ? logits_wanted(row) : 0;
    batch.features += shape.last ? row.features() : 0;
    const auto tier = static_cast<std::size_t>(tier_of(row.slot));
    const bool on_host = tier == static_cast<std::size_t>(Tier::host);
    const Sparsity sparsity{shape.kept_millionths, shape.fetches_keys_only && on_host};
    add_row(batch.cached[tier], row, 0, sparsity, page_tokens);
    if (shape.window > 0) {
      add_row(batch.cached_window[tier], row, shape.window, sparsity, page_tokens);
    }
  }
  for (GpuBatchShape& batch : shape.gpu_batches) {
    batch.hidden = offload::rows_by_tier(policy.activations, batch.tokens);
  }
}

Pass decode_pass(const StageLayout& layout, std::int32_t context) {
  const Batching& batching = layout.batching;
  Pass pass;
  pass.batch_tokens.assign(static_cast<std::size_t>(batching.num_gpu_batches),
                           batching.gpu_batch_size);
  for (std::int32_t g = 0; g < batching.num_gpu_batches; ++g) {
    for (std::int32_t i = 0; i < batching.gpu_batch_size; ++i) {
      PassRow& row = pass.rows.emplace_back();
      row.slot = static_cast<std::int32_t>(pass.rows.size()) - 1;
      row.position = context - 1;
      row.new_tokens = 1;
      row.total = context;
      row.sampling.answer_begin = context - 1;
      row.first_token = i;
      row.gpu_batch = g;
      row.sample = true;
      pass.tokens.push_back(0);
    }
  }
  return pass;
}

bool decodes(const Pass& pass) {
  return std::all_of(pass.rows.begin(), pass.rows.end(), [](const PassRow& row) {
    return row.new_tokens == 1 + row.drafted && row.position > 0;
  });
}

}  // namespace sluice::stage
