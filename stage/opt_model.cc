#include "stage/opt_model.h"

#include <cmath>

namespace sluice::stage {

namespace {

using kernels::Activation;
using Lease = offload::WeightStream::Lease;

constexpr float kEpsilon = 1e-5F;  // OPT's layer norms have PyTorch's default

/// A one-row tensor is never split: it lies in one of the two places, or is absent (no rows).
TensorView vector_of(const Lease& weights, std::size_t index) {
  const SplitMatrix& tensor = weights.tensor(index);
  return tensor.resident.rows > 0 ? tensor.resident : tensor.streamed;
}

void norm(kernels::Ops& ops, const Lease& weights, std::size_t weight, std::size_t bias,
          TensorView out, TensorView in) {
  ops.layer_norm(out, in, vector_of(weights, weight), vector_of(weights, bias), kEpsilon);
}

void linear(kernels::Ops& ops, const Lease& weights, std::size_t weight, std::size_t bias,
            TensorView out, TensorView in, Activation activation = Activation::none,
            TensorView residual = {}) {
  ops.linear(out, in, weights.tensor(weight), vector_of(weights, bias), activation, residual);
}

}  // namespace

void embed(kernels::Ops& ops, const ModelConfig& model, const Lease& weights,
           const LayerWorkspace& workspace, const std::int32_t* ids, const std::int32_t* positions,
           TensorView hidden) {
  if (model.projected()) {
    const TensorView tokens = workspace.token_embedding.slice(0, hidden.rows);
    ops.gather(tokens, weights.tensor(kEmbedTokens), ids);
    ops.linear(hidden, tokens, weights.tensor(kProjectIn), {}, Activation::none, {});
  } else {
    ops.gather(hidden, weights.tensor(kEmbedTokens), ids);
  }
  ops.gather_add(hidden, weights.tensor(kPositions), positions);
}

void decoder_layer(kernels::Ops& ops, const ModelConfig& model, const Lease& weights,
                   const LayerWorkspace& workspace, int set, offload::KvCache& cache,
                   std::int32_t cache_layer, std::int32_t gpu_batch, TensorView hidden) {
  const std::int64_t tokens = hidden.rows;
  const TensorView normed = workspace.normed.slice(0, tokens);
  const TensorView query = workspace.query[set].slice(0, tokens);
  const TensorView keys = workspace.keys[set].slice(0, tokens);
  const TensorView values = workspace.values[set].slice(0, tokens);
  const TensorView ffn = workspace.ffn.slice(0, tokens);
  const float scale = 1.0F / std::sqrt(static_cast<float>(model.head_dim()));

  TensorView in = hidden;
  if (model.norm_before) {
    norm(ops, weights, kNorm1Weight, kNorm1Bias, normed, hidden);
    in = normed;
  }
  linear(ops, weights, kQueryWeight, kQueryBias, query, in);
  linear(ops, weights, kKeyWeight, kKeyBias, keys, in);
  linear(ops, weights, kValueWeight, kValueBias, values, in);
  cache.attend(cache_layer, gpu_batch, normed, query, keys, values, scale);
  linear(ops, weights, kOutWeight, kOutBias, hidden, normed, Activation::none, hidden);
  if (!model.norm_before) norm(ops, weights, kNorm1Weight, kNorm1Bias, hidden, hidden);

  in = hidden;
  if (model.norm_before) {
    norm(ops, weights, kNorm2Weight, kNorm2Bias, normed, hidden);
    in = normed;
  }
  linear(ops, weights, kFc1Weight, kFc1Bias, ffn, in, model.activation);
  linear(ops, weights, kFc2Weight, kFc2Bias, hidden, ffn, Activation::none, hidden);
  if (!model.norm_before) norm(ops, weights, kNorm2Weight, kNorm2Bias, hidden, hidden);
}

TensorView output_head(kernels::Ops& ops, const ModelConfig& model, const Lease& weights,
                       const HeadWorkspace& workspace, TensorView hidden, const std::int32_t* rows,
                       std::int32_t count) {
  const TensorView selected = workspace.selected.slice(0, count);
  const TensorView logits = workspace.logits.slice(0, count);
  ops.select_rows(selected, hidden, rows);
  if (model.final_norm) {
    norm(ops, weights, kFinalNormWeight, kFinalNormBias, selected, selected);
  }
  TensorView in = selected;
  if (model.projected()) {
    in = workspace.projected.slice(0, count);
    ops.linear(in, selected, weights.tensor(kProjectOut), {}, Activation::none, {});
  }
  ops.linear(logits, in, weights.tensor(kHeadTokens), {}, Activation::none, {});
  return logits;
}

void try_embedding(kernels::Ops& ops, const ModelConfig& model, const Lease& weights,
                   const LayerWorkspace& workspace, std::int64_t tokens) {
  if (!model.projected()) return;
  ops.linear(workspace.normed.slice(0, tokens), workspace.token_embedding.slice(0, tokens),
             weights.tensor(kProjectIn), {}, Activation::none, {});
}

void try_decoder_layer(kernels::Ops& ops, const ModelConfig& model, const Lease& weights,
                       const LayerWorkspace& workspace, std::int64_t tokens) {
  const TensorView in = workspace.normed.slice(0, tokens);
  const TensorView hidden = workspace.query[1].slice(0, tokens);
  const TensorView ffn = workspace.ffn.slice(0, tokens);
  linear(ops, weights, kQueryWeight, kQueryBias, workspace.query[0].slice(0, tokens), in);
  linear(ops, weights, kKeyWeight, kKeyBias, workspace.keys[0].slice(0, tokens), in);
  linear(ops, weights, kValueWeight, kValueBias, workspace.values[0].slice(0, tokens), in);
  linear(ops, weights, kOutWeight, kOutBias, hidden, in, Activation::none, hidden);
  linear(ops, weights, kFc1Weight, kFc1Bias, ffn, in, model.activation);
  linear(ops, weights, kFc2Weight, kFc2Bias, hidden, ffn, Activation::none, hidden);
}

void try_output_head(kernels::Ops& ops, const ModelConfig& model, const Lease& weights,
                     const HeadWorkspace& workspace, std::int64_t rows) {
  TensorView in = workspace.selected.slice(0, rows);
  if (model.projected()) {
    const TensorView projected = workspace.projected.slice(0, rows);
    ops.linear(projected, in, weights.tensor(kProjectOut), {}, Activation::none, {});
    in = projected;
  }
  ops.linear(workspace.logits.slice(0, rows), in, weights.tensor(kHeadTokens), {}, Activation::none,
             {});
}

}  // namespace sluice::stage
