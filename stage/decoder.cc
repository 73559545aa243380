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

/// What a block's products are made with.
struct Block {
  kernels::Ops& ops;
  const GroupWeights& weights;
  const LayerWorkspace& workspace;
  const LayerAdapters& adapters;
};

/// A x of the rows, for B to be applied to.
TensorView lowered(const Block& block, const AdapterWeights::Pair& pair, TensorView in) {
  const TensorView low{block.workspace.adapted, in.dtype, in.rows, pair.lower.rows()};
  block.ops.linear(low, in, pair.lower, {}, Activation::none, {});
  return low;
}

/// out += scale B (A in), of the rows whose adapters have the product.
void add_adapters(const Block& block, LayerProduct product, TensorView out, TensorView in) {
  for (const AdapterRows& rows : block.adapters.rows) {
    const AdapterWeights::Pair* pair = block.adapters.find(rows, product);
    if (pair == nullptr) continue;
    const TensorView target = out.slice(rows.first, rows.count);
    block.ops.linear(target, lowered(block, *pair, in.slice(rows.first, rows.count)), pair->upper,
                     {}, Activation::none, target);
  }
}

/// A product with a bias and what adapters add to it; `residual` may be out.
void linear(const Block& block, LayerProduct product, std::size_t weight, std::size_t bias,
            TensorView out, TensorView in, TensorView residual = {}) {
  linear(block.ops, block.weights, weight, bias, out, in, Activation::none, residual);
  add_adapters(block, product, out, in);
}

/// out = activation(in), of rows that lie elsewhere: a product with the identity, by short pieces.
void activate(const Block& block, TensorView out, TensorView in, Activation activation) {
  const SplitMatrix& identity = block.adapters.weights->identity();
  const std::int64_t width = identity.columns();
  const auto pieces = [width](const TensorView& rows) {
    return TensorView{rows.data, rows.dtype, rows.rows * rows.columns / width, width};
  };
  block.ops.linear(pieces(out), pieces(in), identity, {}, activation, {});
}

/// Room for sums beside `out`, of its shape.
TensorView sums_beside(const Block& block, const TensorView& out) {
  return {block.workspace.adapted_mlp.data, out.dtype, out.rows, out.columns};
}

/// A product with an activation, which comes after what adapters add. Rows without one are computed
/// as if no row had one: neighbours with one go through the product apart from them.
void activated(const Block& block, LayerProduct product, std::size_t weight, std::size_t bias,
               TensorView out, TensorView in, Activation activation) {
  const LayerAdapters& adapters = block.adapters;
  const auto multiply = [&](TensorView to, std::int64_t first, std::int64_t end, Activation then) {
    if (first == end) return;
    linear(block.ops, block.weights, weight, bias, to.slice(first, end - first),
           in.slice(first, end - first), then);
  };
  const TensorView sums = sums_beside(block, out);
  std::int64_t next = 0;
  for (std::size_t i = 0; i < adapters.rows.size();) {
    const std::int64_t first = adapters.rows[i].first;
    std::int64_t end = first;
    while (i < adapters.rows.size() && adapters.rows[i].first == end &&
           adapters.find(adapters.rows[i], product) != nullptr) {
      end += adapters.rows[i++].count;
    }
    if (end == first) {
      ++i;
      continue;
    }
    multiply(out, next, first, activation);
    multiply(sums, first, end, Activation::none);
    next = end;
  }
  multiply(out, next, in.rows, activation);
  add_adapters(block, product, sums, in);
  for (const AdapterRows& rows : adapters.rows) {
    if (adapters.find(rows, product) == nullptr) continue;
    activate(block, out.slice(rows.first, rows.count), sums.slice(rows.first, rows.count),
             activation);
  }
}

/// out = (up of in) * out: the second product of a gated MLP.
void times_up(const Block& block, TensorView out, TensorView in) {
  const LayerAdapters& adapters = block.adapters;
  const TensorView sums = sums_beside(block, out);
  for (const AdapterRows& rows : adapters.rows) {
    const AdapterWeights::Pair* pair = adapters.find(rows, LayerProduct::up);
    if (pair == nullptr) continue;
    block.ops.linear_times(sums.slice(rows.first, rows.count),
                           lowered(block, *pair, in.slice(rows.first, rows.count)), pair->upper, {},
                           out.slice(rows.first, rows.count));
  }
  block.ops.linear_times(out, in, block.weights.matrix(kUpWeight), block.weights.vector(kUpBias),
                         out);
  for (const AdapterRows& rows : adapters.rows) {
    if (adapters.find(rows, LayerProduct::up) == nullptr) continue;
    block.ops.add(out.slice(rows.first, rows.count), sums.slice(rows.first, rows.count));
  }
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
  const std::int64_t width =
      model.attention.whole_norm ? rows.columns : std::int64_t{model.attention.head_width};
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
  LayerProduct product;
  std::size_t weight;
  std::size_t bias;
  std::size_t norm_weight;  // of NormPlace::after
  std::size_t norm_bias;
  std::size_t out_norm_weight;  // of NormPlace::around
  std::size_t out_norm_bias;
};

/// Adds the block's result to the hidden states.
void add_block(const Block& block, const DecoderConfig& model, const BlockEnd& end, TensorView in,
               TensorView hidden) {
  if (model.norm.place == NormPlace::around) {
    const TensorView result = block.workspace.aside.slice(0, hidden.rows);
    linear(block, end.product, end.weight, end.bias, result, in);
    norm(block.ops, model, block.weights, end.out_norm_weight, end.out_norm_bias, result, result);
    block.ops.add(hidden, result);
    return;
  }
  if (model.residual_scale != 1.0F) {
    const TensorView result = block.workspace.aside.slice(0, hidden.rows);
    linear(block, end.product, end.weight, end.bias, result, in);
    block.ops.scale(result, model.residual_scale);
    block.ops.add(hidden, result);
    return;
  }
  linear(block, end.product, end.weight, end.bias, hidden, in, hidden);
  if (model.norm.place == NormPlace::after) {
    norm(block.ops, model, block.weights, end.norm_weight, end.norm_bias, hidden, hidden);
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
                     const LayerAdapters& adapters, const std::int32_t* positions,
                     TensorView hidden) {
  const Block block{ops, weights, workspace, adapters};
  const std::int64_t tokens = hidden.rows;
  const TensorView attended = workspace.attended.slice(0, tokens);
  const TensorView query = workspace.query[place.set].slice(0, tokens);
  const TensorView keys = workspace.keys[place.set].slice(0, tokens);
  const TensorView values = workspace.values[place.set].slice(0, tokens);

  const TensorView in = attention_input(ops, model, weights, workspace, place, hidden);
  linear(block, LayerProduct::query, kQueryWeight, kQueryBias, query, in);
  linear(block, LayerProduct::key, kKeyWeight, kKeyBias, keys, in);
  linear(block, LayerProduct::value, kValueWeight, kValueBias, values, in);
  if (model.attention.query_key_norm) {
    norm_heads(ops, model, weights, kQueryNormWeight, query);
    norm_heads(ops, model, weights, kKeyNormWeight, keys);
  }
  if (model.attention.clip > 0) {
    for (const TensorView& rows : {query, keys, values}) ops.clamp(rows, model.attention.clip);
  }
  rotate(ops, model, workspace, place.model_layer, positions, query);
  rotate(ops, model, workspace, place.model_layer, positions, keys);
  if (place.cache != nullptr) {
    place.cache->attend(place.layer, place.gpu_batch, attended, query, keys, values,
                        model.attention_rule(place.model_layer));
  }
  add_block(block, model,
            {LayerProduct::output, kOutputWeight, kOutputBias, kAttentionNormWeight,
             kAttentionNormBias, kAttentionOutNormWeight, kAttentionOutNormBias},
            attended, hidden);
}

void mlp_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
               const LayerWorkspace& workspace, const LayerAdapters& adapters, TensorView hidden) {
  const Block block{ops, weights, workspace, adapters};
  TensorView in = hidden;
  if (model.residual != Residual::sequential) {
    in = workspace.aside.slice(0, hidden.rows);
  } else if (model.norm.place != NormPlace::after) {
    in = workspace.normed.slice(0, hidden.rows);
    norm(ops, model, weights, kMlpNormWeight, kMlpNormBias, in, hidden);
  }
  if (weights.matrix(kRouterWeight).rows() > 0) {
    const TensorView sum = mix_experts(ops, model, weights, workspace.mixture, workspace.mlp, in);
    if (model.residual_scale != 1.0F) ops.scale(sum, model.residual_scale);
    ops.add_rows(hidden, sum, {});
    return;
  }
  const TensorView mlp{workspace.mlp.data, workspace.mlp.dtype, hidden.rows, model.mlp.width};
  if (model.mlp.gated) {
    activated(block, LayerProduct::gate, kGateWeight, kGateBias, mlp, in, model.mlp.activation);
    times_up(block, mlp, in);
  } else {
    activated(block, LayerProduct::up, kUpWeight, kUpBias, mlp, in, model.mlp.activation);
  }
  add_block(block, model,
            {LayerProduct::down, kDownWeight, kDownBias, kMlpNormWeight, kMlpNormBias,
             kMlpOutNormWeight, kMlpOutNormBias},
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
  if (model.head.scale != 1.0F) ops.scale(logits, model.head.scale);
  if (model.head.soft_cap > 0) ops.soft_cap(logits, model.head.soft_cap);
  return {in, logits};
}

}  // namespace sluice::stage
