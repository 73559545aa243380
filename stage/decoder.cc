#include "stage/decoder.h"

#include <algorithm>

namespace sluice::stage {

namespace {

using kernels::Activation;

/// `table` without its first rows.
SplitMatrix rows_from(const SplitMatrix& table, std::int64_t first) {
  SplitMatrix rest = table;
  const std::int64_t resident = std::min(first, table.resident.rows);
  const std::int64_t streamed = first - resident;
  rest.resident = table.resident.slice(resident, table.resident.rows - resident);
  rest.streamed = table.streamed.slice(streamed, table.streamed.rows - streamed);
  return rest;
}

void norm(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
          std::size_t weight, std::size_t bias, TensorView out, TensorView in) {
  ops.layer_norm(out, in, weights.vector(weight), weights.vector(bias), model.norm.epsilon);
}

void linear(kernels::Ops& ops, const GroupWeights& weights, std::size_t weight, std::size_t bias,
            TensorView out, TensorView in, Activation activation = Activation::none,
            TensorView residual = {}) {
  ops.linear(out, in, weights.matrix(weight), weights.vector(bias), activation, residual);
}

/// Of a matrix that never has a bias.
void project(kernels::Ops& ops, const GroupWeights& weights, std::size_t weight, TensorView out,
             TensorView in) {
  ops.linear(out, in, weights.matrix(weight), {}, Activation::none, {});
}

}  // namespace

void embed(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
           const LayerWorkspace& workspace, const std::int32_t* ids, const std::int32_t* positions,
           TensorView hidden) {
  if (model.projected()) {
    const TensorView tokens = workspace.token_embedding.slice(0, hidden.rows);
    ops.gather(tokens, weights.matrix(kTokens), ids);
    project(ops, weights, kEmbeddingProject, hidden, tokens);
  } else {
    ops.gather(hidden, weights.matrix(kTokens), ids);
  }
  ops.gather_add(hidden, rows_from(weights.matrix(kPositions), model.positions.offset), positions);
}

void attention_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                     const LayerWorkspace& workspace, const KvPlace& place, TensorView hidden) {
  const std::int64_t tokens = hidden.rows;
  const TensorView normed = workspace.normed.slice(0, tokens);
  const TensorView attended = workspace.attended.slice(0, tokens);
  const TensorView query = workspace.query[place.set].slice(0, tokens);
  const TensorView keys = workspace.keys[place.set].slice(0, tokens);
  const TensorView values = workspace.values[place.set].slice(0, tokens);
  const bool norm_before = model.norm.place == NormPlace::before;

  if (norm_before) {
    norm(ops, model, weights, kAttentionNormWeight, kAttentionNormBias, normed, hidden);
  }
  const TensorView in = norm_before ? normed : hidden;
  linear(ops, weights, kQueryWeight, kQueryBias, query, in);
  linear(ops, weights, kKeyWeight, kKeyBias, keys, in);
  linear(ops, weights, kValueWeight, kValueBias, values, in);
  if (place.cache != nullptr) {
    place.cache->attend(place.layer, place.gpu_batch, attended, query, keys, values,
                        model.attention.scale);
  }
  linear(ops, weights, kOutputWeight, kOutputBias, hidden, attended, Activation::none, hidden);
  if (!norm_before) {
    norm(ops, model, weights, kAttentionNormWeight, kAttentionNormBias, hidden, hidden);
  }
}

void mlp_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
               const LayerWorkspace& workspace, TensorView hidden) {
  const TensorView normed = workspace.normed.slice(0, hidden.rows);
  const TensorView mlp = workspace.mlp.slice(0, hidden.rows);
  const bool norm_before = model.norm.place == NormPlace::before;

  if (norm_before) norm(ops, model, weights, kMlpNormWeight, kMlpNormBias, normed, hidden);
  const TensorView in = norm_before ? normed : hidden;
  linear(ops, weights, kUpWeight, kUpBias, mlp, in, model.mlp.activation);
  linear(ops, weights, kDownWeight, kDownBias, hidden, mlp, Activation::none, hidden);
  if (!norm_before) norm(ops, model, weights, kMlpNormWeight, kMlpNormBias, hidden, hidden);
}

TensorView output_head(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                       const HeadWorkspace& workspace, TensorView hidden, const std::int32_t* rows,
                       std::int32_t count) {
  const TensorView selected = workspace.selected.slice(0, count);
  const TensorView logits = workspace.logits.slice(0, count);
  ops.select_rows(selected, hidden, rows);
  if (model.head.norm) {
    norm(ops, model, weights, kHeadNormWeight, kHeadNormBias, selected, selected);
  }
  TensorView in = selected;
  if (model.projected()) {
    in = workspace.projected.slice(0, count);
    project(ops, weights, kHeadProject, in, selected);
  }
  project(ops, weights, kHeadTokens, logits, in);
  return logits;
}

}  // namespace sluice::stage
