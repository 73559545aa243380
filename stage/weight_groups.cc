#include "stage/weight_groups.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

namespace sluice::stage {

namespace {

using offload::GroupSpec;
using offload::WeightSpec;

WeightSpec present_if(bool present, std::string name, std::int64_t rows, std::int64_t columns) {
  return present ? WeightSpec{std::move(name), rows, columns} : WeightSpec{};
}

/// A group whose tensors' names begin with `prefix`.
struct Group {
  Group(std::string name, std::size_t tensors, std::string start, std::int32_t layer = -1)
      : spec{std::move(name), std::vector<WeightSpec>(tensors), layer}, prefix(std::move(start)) {}

  void norm(bool present, std::size_t weight, std::size_t bias, const std::string& name,
            std::int64_t columns) {
    spec.tensors[weight] = present_if(present, prefix + name + ".weight", 1, columns);
    spec.tensors[bias] = present_if(present, prefix + name + ".bias", 1, columns);
  }
  void linear(std::size_t weight, std::size_t bias, bool has_bias, const std::string& name,
              std::int64_t outputs, std::int64_t inputs) {
    spec.tensors[weight] = {prefix + name + ".weight", outputs, inputs};
    spec.tensors[bias] = present_if(has_bias, prefix + name + ".bias", 1, outputs);
  }

  GroupSpec spec;
  std::string prefix;
};

}  // namespace

GroupSpec embedding_group(const DecoderConfig& model) {
  Group group("embedding", kEmbeddingTensorCount, "");
  std::vector<WeightSpec>& tensors = group.spec.tensors;
  tensors[kEmbeddingProject] =
      present_if(model.projected(), "project_in.weight", model.hidden, model.embedding.width);
  tensors[kPositions] = {"embed_positions.weight",
                         std::int64_t{model.max_positions} + model.positions.offset, model.hidden};
  tensors[kTokens] = {"embed_tokens.weight", model.vocabulary, model.embedding.width};
  return std::move(group.spec);
}

GroupSpec attention_group(const DecoderConfig& model, std::int32_t layer) {
  Group group(fmt::format("layer {} attention", layer), kAttentionTensorCount,
              fmt::format("layers.{}.", layer), layer);
  const AttentionTraits& attention = model.attention;
  const bool bias = attention.query_key_value_bias;
  const std::int64_t query = attention.query_width();
  const std::int64_t kv = attention.kv_width();
  group.norm(model.norm.affine, kAttentionNormWeight, kAttentionNormBias, "self_attn_layer_norm",
             model.hidden);
  group.linear(kQueryWeight, kQueryBias, bias, "self_attn.q_proj", query, model.hidden);
  group.linear(kKeyWeight, kKeyBias, bias, "self_attn.k_proj", kv, model.hidden);
  group.linear(kValueWeight, kValueBias, bias, "self_attn.v_proj", kv, model.hidden);
  group.linear(kOutputWeight, kOutputBias, attention.output_bias, "self_attn.out_proj",
               model.hidden, query);
  return std::move(group.spec);
}

GroupSpec mlp_group(const DecoderConfig& model, std::int32_t layer) {
  Group group(fmt::format("layer {} MLP", layer), kMlpTensorCount, fmt::format("layers.{}.", layer),
              layer);
  group.norm(model.norm.affine, kMlpNormWeight, kMlpNormBias, "final_layer_norm", model.hidden);
  group.linear(kUpWeight, kUpBias, model.mlp.bias, "fc1", model.mlp.width, model.hidden);
  group.linear(kDownWeight, kDownBias, model.mlp.bias, "fc2", model.hidden, model.mlp.width);
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
  Group group("output head", kHeadTensorCount, "");
  group.norm(model.head.norm && model.norm.affine, kHeadNormWeight, kHeadNormBias,
             "final_layer_norm", model.hidden);
  std::vector<WeightSpec>& tensors = group.spec.tensors;
  tensors[kHeadProject] =
      present_if(model.projected(), "project_out.weight", model.embedding.width, model.hidden);
  tensors[kHeadTokens] = {model.head.tied ? "embed_tokens.weight" : "lm_head.weight",
                          model.vocabulary, model.embedding.width};
  return std::move(group.spec);
}

offload::WeightCompression compression_of(offload::Compression kind) {
  return {kind, {"embed_positions.weight"}};
}

}  // namespace sluice::stage
