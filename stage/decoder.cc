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
  const NormTraits& traits = model.norm;
  if (traits.kind == NormKind::rms) {
    ops.rms_norm(out, in, weights.vector(weight), traits.epsilon, traits.weight_offset);
  } else {
    ops.layer_norm(out, in, weights.vector(weight), weights.vector(bias), traits.epsilon);
  }
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

/// What attention reads: the hidden states or their norm. With a parallel residual, what the MLP
/// will read is kept aside.
TensorView attention_input(kernels::Ops& ops, const DecoderConfig& model,
                           const GroupWeights& weights, const LayerWorkspace& workspace,
                           const KvPlace& place, TensorView hidden) {
  if (model.residual == Residual::parallel) {
    norm(ops, model, weights, kParallelNormWeight, kParallelNormBias,
         workspace.aside.slice(0, hidden.rows), hidden);
  }
  const bool norm_before = model.norm.place != NormPlace::after;
  if (!norm_before || !model.norms_attention_of(place.model_layer)) return hidden;
  const bool shared = model.residual == Residual::parallel_one_norm;
  const TensorView normed = (shared ? workspace.aside : workspace.normed).slice(0, hidden.rows);
  norm(ops, model, weights, kAttentionNormWeight, kAttentionNormBias, normed, hidden);
  return normed;
}

void norm_heads(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                std::size_t weight, TensorView rows) {
  const std::int32_t width = model.attention.head_width;
  const TensorView heads{rows.data, rows.dtype, rows.rows * rows.columns / width, width};
  ops.rms_norm(heads, heads, weights.vector(weight), model.norm.epsilon, model.norm.weight_offset);
}

void rotate(kernels::Ops& ops, const DecoderConfig& model, const LayerWorkspace& workspace,
            std::int32_t layer, const std::int32_t* positions, TensorView rows) {
  const RotaryTraits* const rotary = model.positions.rotary_of(layer);
  if (rotary == nullptr) return;
  const auto kind = static_cast<std::size_t>(rotary - model.positions.rotary.data());
  ops.rotate(rows,
             {model.attention.head_width, rotary->width, rotary->neighbours, rotary->factor,
              workspace.frequencies[kind]},
             positions);
}

/// The last product of a block, with the norms that may follow it.
struct BlockEnd {
  std::size_t weight;
  std::size_t bias;
  std::size_t norm_weight;  // of NormPlace::after
  std::size_t norm_bias;
  std::size_t out_norm_weight;  // of NormPlace::around
  std::size_t out_norm_bias;
};

/// Adds the block's result to the hidden states.
void add_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
               const LayerWorkspace& workspace, const BlockEnd& end, TensorView in,
               TensorView hidden) {
  if (model.norm.place == NormPlace::around) {
    const TensorView result = workspace.aside.slice(0, hidden.rows);
    linear(ops, weights, end.weight, end.bias, result, in);
    norm(ops, model, weights, end.out_norm_weight, end.out_norm_bias, result, result);
    ops.add(hidden, result);
    return;
  }
  linear(ops, weights, end.weight, end.bias, hidden, in, Activation::none, hidden);
  if (model.norm.place == NormPlace::after) {
    norm(ops, model, weights, end.norm_weight, end.norm_bias, hidden, hidden);
  }
}

}  // namespace

void embed(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
           const LayerWorkspace& workspace, const std::int32_t* ids, const std::int32_t* positions,
           TensorView hidden) {
  const EmbeddingTraits& embedding = model.embedding;
  const TensorView tokens =
      model.projected() ? workspace.token_embedding.slice(0, hidden.rows) : hidden;
  ops.gather(tokens, weights.matrix(kTokens), ids);
  if (embedding.scale != 1.0F) ops.scale(tokens, embedding.scale);
  if (embedding.norm) {
    norm(ops, model, weights, kEmbeddingNormWeight, kEmbeddingNormBias, tokens, tokens);
  }
  if (model.projects_embedding()) {
    project(ops, weights, kEmbeddingProject, hidden, tokens);
  } else if (model.projected()) {
    ops.widen_rows(hidden, tokens);
  }
  if (model.positions.kind == PositionKind::learned) {
    ops.gather_add(hidden, rows_from(weights.matrix(kPositions), model.positions.offset),
                   positions);
  }
}

void attention_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                     const LayerWorkspace& workspace, const KvPlace& place,
                     const std::int32_t* positions, TensorView hidden) {
  const std::int64_t tokens = hidden.rows;
  const TensorView attended = workspace.attended.slice(0, tokens);
  const TensorView query = workspace.query[place.set].slice(0, tokens);
  const TensorView keys = workspace.keys[place.set].slice(0, tokens);
  const TensorView values = workspace.values[place.set].slice(0, tokens);

  const TensorView in = attention_input(ops, model, weights, workspace, place, hidden);
  linear(ops, weights, kQueryWeight, kQueryBias, query, in);
  linear(ops, weights, kKeyWeight, kKeyBias, keys, in);
  linear(ops, weights, kValueWeight, kValueBias, values, in);
  if (model.attention.query_key_norm) {
    norm_heads(ops, model, weights, kQueryNormWeight, query);
    norm_heads(ops, model, weights, kKeyNormWeight, keys);
  }
  rotate(ops, model, workspace, place.model_layer, positions, query);
  rotate(ops, model, workspace, place.model_layer, positions, keys);
  if (place.cache != nullptr) {
    place.cache->attend(place.layer, place.gpu_batch, attended, query, keys, values,
                        model.attention_rule(place.model_layer));
  }
  add_block(ops, model, weights, workspace,
            {kOutputWeight, kOutputBias, kAttentionNormWeight, kAttentionNormBias,
             kAttentionOutNormWeight, kAttentionOutNormBias},
            attended, hidden);
}

void mlp_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
               const LayerWorkspace& workspace, TensorView hidden) {
  const TensorView mlp = workspace.mlp.slice(0, hidden.rows);
  TensorView in = hidden;
  if (model.residual != Residual::sequential) {
    in = workspace.aside.slice(0, hidden.rows);
  } else if (model.norm.place != NormPlace::after) {
    in = workspace.normed.slice(0, hidden.rows);
    norm(ops, model, weights, kMlpNormWeight, kMlpNormBias, in, hidden);
  }
  if (model.mlp.gated) {
    linear(ops, weights, kGateWeight, kGateBias, mlp, in, model.mlp.activation);
    ops.linear_times(mlp, in, weights.matrix(kUpWeight), weights.vector(kUpBias), mlp);
  } else {
    linear(ops, weights, kUpWeight, kUpBias, mlp, in, model.mlp.activation);
  }
  add_block(
      ops, model, weights, workspace,
      {kDownWeight, kDownBias, kMlpNormWeight, kMlpNormBias, kMlpOutNormWeight, kMlpOutNormBias},
      mlp, hidden);
}

HeadRows output_head(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                     const HeadWorkspace& workspace, TensorView hidden, const std::int32_t* rows,
                     std::int32_t count, std::int32_t wanted) {
  const TensorView selected = workspace.selected.slice(0, count);
  const TensorView logits = workspace.logits.slice(0, wanted);
  ops.select_rows(selected, hidden, rows);
  if (model.head.norm) {
    norm(ops, model, weights, kHeadNormWeight, kHeadNormBias, selected, selected);
  }
  TensorView in = selected;
  if (model.projected()) {
    in = workspace.projected.slice(0, count);
    linear(ops, weights, kHeadProject, kHeadProjectBias, in, selected,
           model.head.dense_projection ? Activation::gelu : Activation::none);
  }
  if (model.head.dense_projection) {
    norm(ops, model, weights, kHeadProjectNormWeight, kHeadProjectNormBias, in, in);
  }
  if (wanted == 0) return {in, logits};
  linear(ops, weights, kHeadTokens, kHeadBias, logits, in.slice(0, wanted));
  if (model.head.soft_cap > 0) ops.soft_cap(logits, model.head.soft_cap);
  return {in, logits};
}

}  // namespace sluice::stage
