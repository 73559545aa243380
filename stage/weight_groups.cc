#include "stage/weight_groups.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

namespace sluice::stage {

namespace {

using offload::GroupSpec;
using offload::WeightSpec;
using offload::WeightUse;

/// A group whose tensors' names begin with `start`.
struct Group {
  Group(std::string name, std::size_t tensors, std::string start, std::int32_t layer = -1)
      : spec{std::move(name), std::vector<WeightSpec>(tensors), layer}, prefix(std::move(start)) {}

  void tensor(std::size_t index, const std::string& name, std::int64_t rows, std::int64_t columns,
              WeightUse use = WeightUse::matrix) {
    spec.tensors[index] = {prefix + name, rows, columns, use};
  }
  void norm(const NormTraits& traits, std::size_t weight, std::size_t bias, const std::string& name,
            std::int64_t columns) {
    if (!traits.affine) return;
    tensor(weight, name + ".weight", 1, columns, WeightUse::scale);
    const bool has_bias = traits.kind == NormKind::layer && traits.bias;
    if (has_bias) tensor(bias, name + ".bias", 1, columns, WeightUse::bias);
  }
  void linear(std::size_t weight, std::size_t bias, bool has_bias, const std::string& name,
              std::int64_t outputs, std::int64_t inputs) {
    tensor(weight, name + ".weight", outputs, inputs);
    if (has_bias) tensor(bias, name + ".bias", 1, outputs, WeightUse::bias);
  }

  GroupSpec spec;
  std::string prefix;
};

}  // namespace

GroupSpec embedding_group(const DecoderConfig& model) {
  Group group("embedding", kEmbeddingTensorCount, "embedding.");
  if (model.embedding.norm) {
    group.norm(model.norm, kEmbeddingNormWeight, kEmbeddingNormBias, "norm", model.embedding.width);
  }
  if (model.projects_embedding()) {
    group.tensor(kEmbeddingProject, "project.weight", model.hidden, model.embedding.width);
  }
  if (model.positions.kind == PositionKind::learned) {
    group.tensor(kPositions, "positions.weight",
                 std::int64_t{model.max_positions} + model.positions.offset, model.hidden,
                 WeightUse::table);
  }
  group.tensor(kTokens, "tokens.weight", model.vocabulary, model.embedding.width);
  return std::move(group.spec);
}

GroupSpec attention_group(const DecoderConfig& model, std::int32_t layer) {
  Group group(fmt::format("layer {} attention", layer), kAttentionTensorCount,
              fmt::format("layers.{}.attention.", layer), layer);
  const AttentionTraits& attention = model.attention;
  const bool bias = attention.query_key_value_bias;
  const std::int64_t query = attention.query_width();
  const std::int64_t kv = attention.kv_width();
  const NormTraits& norm = model.norm;
  if (model.norms_attention_of(layer)) {
    group.norm(norm, kAttentionNormWeight, kAttentionNormBias, "norm", model.hidden);
  }
  if (model.residual == Residual::parallel) {
    group.norm(norm, kParallelNormWeight, kParallelNormBias, "parallel_norm", model.hidden);
  }
  if (norm.place == NormPlace::around) {
    group.norm(norm, kAttentionOutNormWeight, kAttentionOutNormBias, "out_norm", model.hidden);
  }
  if (attention.query_key_norm) {
    const bool whole = attention.whole_norm;
    group.tensor(kQueryNormWeight, "query_norm.weight", 1, whole ? query : attention.head_width,
                 WeightUse::scale);
    group.tensor(kKeyNormWeight, "key_norm.weight", 1, whole ? kv : attention.head_width,
                 WeightUse::scale);
  }
  group.linear(kQueryWeight, kQueryBias, bias, "query", query, model.hidden);
  group.linear(kKeyWeight, kKeyBias, bias, "key", kv, model.hidden);
  group.linear(kValueWeight, kValueBias, bias, "value", kv, model.hidden);
  group.linear(kOutputWeight, kOutputBias, attention.output_bias, "output", model.hidden, query);
  return std::move(group.spec);
}

namespace {

void add_experts(const DecoderConfig& model, Group& group) {
  const MixtureTraits& mixture = model.mixture;
  const std::int64_t hidden = model.hidden;
  // A table is kept as it is: rounded logits would send rows to other experts.
  group.tensor(kRouterWeight, "router.weight", mixture.experts, hidden, WeightUse::table);
  if (mixture.router_bias) {
    group.tensor(kRouterBias, "router.bias", 1, mixture.experts, WeightUse::bias);
  }
  if (mixture.correction) {
    group.tensor(kCorrection, "correction.bias", 1, mixture.experts, WeightUse::bias);
  }
  if (mixture.shared_width > 0) {
    group.tensor(kSharedGate, "shared.gate.weight", mixture.shared_width, hidden);
    group.tensor(kSharedUp, "shared.up.weight", mixture.shared_width, hidden);
    group.tensor(kSharedDown, "shared.down.weight", hidden, mixture.shared_width);
  }
  if (mixture.shared_switch) group.tensor(kSharedSwitch, "shared.switch.weight", 1, hidden);
  group.spec.tensors.resize(expert_tensors(mixture.experts));
  for (std::int32_t expert = 0; expert < mixture.experts; ++expert) {
    const std::size_t first = expert_tensors(expert);
    const std::string name = fmt::format("experts.{}.", expert);
    const bool bias = model.mlp.bias;
    group.linear(first + kExpertGate, first + kExpertGateBias, bias, name + "gate", mixture.width,
                 hidden);
    group.linear(first + kExpertUp, first + kExpertUpBias, bias, name + "up", mixture.width,
                 hidden);
    group.linear(first + kExpertDown, first + kExpertDownBias, bias, name + "down", hidden,
                 mixture.width);
  }
}

}  // namespace

GroupSpec mlp_group(const DecoderConfig& model, std::int32_t layer) {
  Group group(fmt::format("layer {} MLP", layer), kMlpTensorCount,
              fmt::format("layers.{}.mlp.", layer), layer);
  if (model.residual == Residual::sequential) {
    group.norm(model.norm, kMlpNormWeight, kMlpNormBias, "norm", model.hidden);
  }
  if (model.norm.place == NormPlace::around) {
    group.norm(model.norm, kMlpOutNormWeight, kMlpOutNormBias, "out_norm", model.hidden);
  }
  if (model.has_experts(layer)) {
    add_experts(model, group);
    return std::move(group.spec);
  }
  if (model.mlp.gated) {
    group.linear(kGateWeight, kGateBias, model.mlp.bias, "gate", model.mlp.width, model.hidden);
  }
  group.linear(kUpWeight, kUpBias, model.mlp.bias, "up", model.mlp.width, model.hidden);
  group.linear(kDownWeight, kDownBias, model.mlp.bias, "down", model.hidden, model.mlp.width);
  return std::move(group.spec);
}

GroupSpec layer_group(const DecoderConfig& model, std::int32_t layer) {
  GroupSpec whole = attention_group(model, layer);
  whole.name = fmt::format("layer {}", layer);
  for (WeightSpec& tensor : mlp_group(model, layer).tensors) {
    whole.tensors.push_back(std::move(tensor));
  }
  return whole;
}

GroupSpec head_group(const DecoderConfig& model) {
  Group group("output head", kHeadTensorCount, "head.");
  if (model.head.norm) {
    group.norm(model.norm, kHeadNormWeight, kHeadNormBias, "norm", model.hidden);
  }
  if (model.projected()) {
    group.linear(kHeadProject, kHeadProjectBias, model.head.dense_projection, "project",
                 model.embedding.width, model.hidden);
  }
  if (model.head.dense_projection) {
    group.norm(model.norm, kHeadProjectNormWeight, kHeadProjectNormBias, "project_norm",
               model.embedding.width);
  }
  if (model.head.bias) {
    group.tensor(kHeadBias, "tokens.bias", 1, model.vocabulary, WeightUse::bias);
  }
  group.tensor(kHeadTokens, "tokens.weight", model.vocabulary, model.embedding.width);
  if (model.head.tied) group.spec.tensors[kHeadTokens] = embedding_group(model).tensors[kTokens];
  return std::move(group.spec);
}

}  // namespace sluice::stage
