#include "stage/pass_work.h"

#include <algorithm>

#include "stage/weight_groups.h"

namespace sluice::stage {

namespace {

/// Of the matrices, which is all there is to multiply with.
double product_flop(const offload::GroupPlacement& layer) {
  double elements = 0;
  for (const offload::TensorPlacement& tensor : layer.tensors) {
    if (tensor.info.rows <= 1) continue;
    elements += static_cast<double>(tensor.info.rows) * static_cast<double>(tensor.info.columns);
  }
  return 2 * elements;
}

std::int64_t logits_wanted(const PassRow& row) {
  std::int64_t wanted = row.sample ? 1 : 0;
  if (row.prompt_logprobs) wanted += row.new_tokens - (row.next_token >= 0 ? 0 : 1);
  return wanted;
}

}  // namespace

PassWork::PassWork(const StageLayout& layout, const std::vector<offload::GroupPlacement>& layers)
    : logit_rows_(layout.logit_rows()) {
  const std::size_t first = layout.first() ? 1 : 0;
  const std::size_t last = layers.size() - (layout.last() ? 1 : 0);
  for (std::size_t l = first; l < last; ++l) {
    layers_flop_ += product_flop(layers[l]);
    layers_bytes_ += layers[l].total_bytes();
  }
  if (layout.first()) {  // gathers two rows, and may project
    const offload::GroupPlacement& embedding = layers.front();
    const offload::TensorPlacement& project = embedding.tensors[kEmbeddingProject];
    embedding_flop_ =
        2.0 * static_cast<double>(project.info.rows) * static_cast<double>(project.info.columns);
    embedding_bytes_ =
        embedding.tensors[kTokens].row_bytes() + embedding.tensors[kPositions].row_bytes();
  }
  if (layout.last()) {
    head_flop_ = product_flop(layers.back());
    head_bytes_ = layers.back().total_bytes();
  }
  const AttentionTraits& attention = layout.model.attention;
  attention_flop_ = 4.0 * attention.query_width() * layout.config.layers;
  attention_bytes_ = 2 * static_cast<std::uint64_t>(layout.config.layers) *
                     static_cast<std::uint64_t>(attention.kv_heads) *
                     row_bytes_of(layout.cache_dtype(), attention.head_width);
}

ComputeWork PassWork::of(const Pass& pass,
                         const std::function<bool(std::int32_t slot)>& on_host) const {
  ComputeWork work;
  for (const std::int32_t tokens : pass.batch_tokens) {
    if (tokens == 0) continue;
    work.flop += tokens * (layers_flop_ + embedding_flop_);
    work.weight_bytes += layers_bytes_ + static_cast<std::uint64_t>(tokens) * embedding_bytes_;
  }
  std::int64_t logits = 0;
  std::int32_t gpu_batch = -1;
  const auto add_head = [&] {
    work.flop += static_cast<double>(logits) * head_flop_;
    const std::int64_t chunks = (logits + logit_rows_ - 1) / logit_rows_;
    work.weight_bytes += static_cast<std::uint64_t>(chunks) * head_bytes_;
    logits = 0;
  };
  for (const PassRow& row : pass.rows) {
    if (row.gpu_batch != gpu_batch) add_head();
    gpu_batch = row.gpu_batch;
    logits += logits_wanted(row);
    // New token i sees position + i + 1 tokens.
    const double n = row.new_tokens;
    const double seen = n * row.position + n * (n + 1) / 2;
    const std::uint64_t bytes =
        static_cast<std::uint64_t>(row.position + row.new_tokens) * attention_bytes_;
    const bool host = on_host(row.slot);
    (host ? work.host_flop : work.flop) += seen * attention_flop_;
    (host ? work.host_kv_bytes : work.kv_bytes) += bytes;
  }
  add_head();
  return work;
}

}  // namespace sluice::stage
