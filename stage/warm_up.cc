#include "stage/warm_up.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "stage/decoder.h"

namespace sluice::stage {

namespace {

/// Token 0 at position 0, in every row; and row 0 for every logit.
void fill_indices(Backend& backend, const IndexBuffers& indices, std::int64_t tokens) {
  const std::pair<std::int32_t*, std::int32_t*> lists[] = {
      {indices.host_ids, indices.device_ids},
      {indices.host_positions, indices.device_positions},
      {indices.host_logit_rows, indices.device_logit_rows}};
  for (const auto& [host, device] : lists) {
    if (host == nullptr) continue;
    std::fill_n(host, tokens, 0);
    backend.copy(Lane::compute, device, host,
                 static_cast<std::size_t>(tokens) * sizeof(std::int32_t));
  }
}

/// Of the stage's groups that have an MLP: the first, and the first of the other kind, with experts
/// or without. Only these differ in what they launch.
std::vector<std::int32_t> mlp_groups(const StageLayout& layout) {
  const StageConfig& config = layout.config;
  const std::int32_t of_layer = config.policy.mlp_once ? 2 : 1;
  const std::int32_t first = (layout.first() ? 1 : 0) + of_layer - 1;
  std::vector<std::int32_t> groups = {first};
  const bool experts = layout.model.has_experts(config.first_layer);
  for (std::int32_t layer = 1; layer < config.layers && groups.size() == 1; ++layer) {
    if (layout.model.has_experts(config.first_layer + layer) == experts) continue;
    groups.push_back(first + layer * of_layer);
  }
  return groups;
}

}  // namespace

void warm_up(const StageLayout& layout, kernels::Engine& engine,
             const offload::WeightStream& weights, offload::ActivationStore& activations,
             Workspace& workspace) {
  Backend& backend = *engine.backend;
  kernels::Ops& ops = *engine.device_ops;
  const DecoderConfig& model = layout.model;
  const IndexBuffers& indices = workspace.indices.front();
  const offload::WeightStream::Lease first = weights.shape_of(0);
  const std::int32_t first_layer = layout.first() ? 1 : 0;
  const bool apart = layout.config.policy.mlp_once;
  const offload::WeightStream::Lease layer = weights.shape_of(first_layer);
  const offload::WeightStream::Lease last = weights.shape_of(weights.group_count() - 1);
  fill_indices(backend, indices, layout.tokens());
  for (const std::int64_t rows : {layout.tokens(), std::int64_t{layout.batching.gpu_batch_size}}) {
    const std::int64_t tokens = std::min(rows, layout.tokens());
    const TensorView hidden = activations.open(0, tokens, true);
    if (layout.first()) {
      embed(ops, model, GroupWeights(first), workspace.layer, indices.device_ids,
            indices.device_positions, hidden);
    }
    const AdapterRows adapted{0, tokens, 0};
    const LayerAdapters adapters{workspace.adapters, 0, {&adapted, workspace.adapters ? 1U : 0U}};
    attention_block(ops, model, attention_of(layer), workspace.layer,
                    {nullptr, layout.config.first_layer, 0, 0, 0}, adapters,
                    indices.device_positions, hidden);
    for (const std::int32_t group : mlp_groups(layout)) {
      const offload::WeightStream::Lease mlp = weights.shape_of(group);
      mlp_block(ops, model, apart ? GroupWeights(mlp) : mlp_of(mlp), workspace.layer, adapters,
                hidden);
    }
    if (layout.last()) {
      const auto wanted = static_cast<std::int32_t>(std::min(tokens, layout.logit_rows()));
      output_head(ops, model, GroupWeights(last), workspace.head, hidden, indices.device_logit_rows,
                  wanted, wanted);
    }
    activations.close(0, false);
  }
  backend.synchronize(backend.record(Lane::compute));
}

}  // namespace sluice::stage
