#include "stage/model_config.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/device/error.h"

namespace sluice::stage {

namespace {

using offload::LayerSpec;
using offload::WeightSpec;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw InputError(fmt::format("{}: {}; it is no OPT model that can run", where, what));
}

// Elements of all tensors; false: more than can be counted.
bool count(const ModelConfig& model, std::int64_t& total) {
  const auto add = [&total](const LayerSpec& spec, std::int64_t times) {
    for (const WeightSpec& tensor : spec.tensors) {
      std::int64_t elements = 0;
      if (__builtin_mul_overflow(tensor.rows, tensor.columns, &elements) ||
          __builtin_mul_overflow(elements, times, &elements) ||
          __builtin_add_overflow(total, elements, &total)) {
        return false;
      }
    }
    return true;
  };
  return add(embedding_spec(model), 1) && add(layer_spec(model, 0), model.layers) &&
         add(head_spec(model, true), 1);
}

WeightSpec present_if(bool present, std::string name, std::int64_t rows, std::int64_t columns) {
  return present ? WeightSpec{std::move(name), rows, columns} : WeightSpec{};
}

}  // namespace

void ModelConfig::validate(const std::string& where) const {
  const std::pair<const char*, std::int32_t> sizes[] = {{"num_hidden_layers", layers},
                                                        {"hidden_size", hidden},
                                                        {"num_attention_heads", heads},
                                                        {"ffn_dim", ffn},
                                                        {"vocab_size", vocabulary},
                                                        {"max_position_embeddings", positions},
                                                        {"word_embed_proj_dim", embedding_width}};
  for (const auto& [key, value] : sizes) {
    if (value < 1) refuse(where, fmt::format("{} is {}, not 1 or more", key, value));
  }
  if (hidden % heads != 0) {
    refuse(where,
           fmt::format("hidden_size {} is no multiple of num_attention_heads {}", hidden, heads));
  }
  if (positions > INT32_MAX - 2) {
    refuse(where, fmt::format("max_position_embeddings is {}, too large", positions));
  }
  const std::pair<const char*, std::int32_t> ids[] = {
      {"bos_token_id", bos}, {"eos_token_id", eos}, {"pad_token_id", pad}};
  for (const auto& [key, id] : ids) {
    if (id < 0 || id >= vocabulary) {
      refuse(where, fmt::format("{} {} is no id below vocab_size {}", key, id, vocabulary));
    }
  }
  std::int64_t elements = 0;
  if (!count(*this, elements) || elements > INT64_MAX / 8) {  // in bytes, with room to add up
    refuse(where, fmt::format("{} layers of hidden_size {} and ffn_dim {} have more bytes than can "
                              "be counted",
                              layers, hidden, ffn));
  }
}

offload::WeightCompression compression_of(offload::Compression kind) {
  return {kind, {"embed_positions.weight"}};
}

LayerSpec embedding_spec(const ModelConfig& model) {
  LayerSpec spec{"embedding", std::vector<WeightSpec>(kEmbeddingTensorCount)};
  spec.tensors[kProjectIn] =
      present_if(model.projected(), "project_in.weight", model.hidden, model.embedding_width);
  // Positions count from 2 (OPTLearnedPositionalEmbedding): two rows are never used.
  spec.tensors[kPositions] = {"embed_positions.weight", std::int64_t{model.positions} + 2,
                              model.hidden};
  spec.tensors[kEmbedTokens] = {"embed_tokens.weight", model.vocabulary, model.embedding_width};
  return spec;
}

LayerSpec layer_spec(const ModelConfig& model, std::int32_t layer) {
  const std::string prefix = fmt::format("layers.{}.", layer);
  LayerSpec spec{fmt::format("layer {}", layer), std::vector<WeightSpec>(kLayerTensorCount)};
  const auto norm = [&](std::size_t weight, std::size_t bias, const std::string& name) {
    spec.tensors[weight] =
        present_if(model.norm_affine, prefix + name + ".weight", 1, model.hidden);
    spec.tensors[bias] = present_if(model.norm_affine, prefix + name + ".bias", 1, model.hidden);
  };
  const auto linear = [&](std::size_t weight, std::size_t bias, const std::string& name,
                          std::int64_t outputs, std::int64_t inputs) {
    spec.tensors[weight] = {prefix + name + ".weight", outputs, inputs};
    spec.tensors[bias] = present_if(model.bias, prefix + name + ".bias", 1, outputs);
  };
  norm(kNorm1Weight, kNorm1Bias, "self_attn_layer_norm");
  linear(kQueryWeight, kQueryBias, "self_attn.q_proj", model.hidden, model.hidden);
  linear(kKeyWeight, kKeyBias, "self_attn.k_proj", model.hidden, model.hidden);
  linear(kValueWeight, kValueBias, "self_attn.v_proj", model.hidden, model.hidden);
  linear(kOutWeight, kOutBias, "self_attn.out_proj", model.hidden, model.hidden);
  norm(kNorm2Weight, kNorm2Bias, "final_layer_norm");
  linear(kFc1Weight, kFc1Bias, "fc1", model.ffn, model.hidden);
  linear(kFc2Weight, kFc2Bias, "fc2", model.hidden, model.ffn);
  return spec;
}

LayerSpec head_spec(const ModelConfig& model, bool separate_head) {
  LayerSpec spec{"output head", std::vector<WeightSpec>(kHeadTensorCount)};
  const bool norm = model.final_norm && model.norm_affine;
  spec.tensors[kFinalNormWeight] = present_if(norm, "final_layer_norm.weight", 1, model.hidden);
  spec.tensors[kFinalNormBias] = present_if(norm, "final_layer_norm.bias", 1, model.hidden);
  spec.tensors[kProjectOut] =
      present_if(model.projected(), "project_out.weight", model.embedding_width, model.hidden);
  spec.tensors[kHeadTokens] = {separate_head ? "lm_head.weight" : "embed_tokens.weight",
                               model.vocabulary, model.embedding_width};
  return spec;
}

}  // namespace sluice::stage
