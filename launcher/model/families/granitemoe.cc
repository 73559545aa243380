// Granite-MoE: the Llama line with experts in every layer, and factors on the embedding, on scores,
// on what the blocks add and on logits.
// Source of keys, defaults and names: transformers' configuration_granitemoe.py and
// modeling_granitemoe.py.
#include <string>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

float factor(const ConfigReader& config, const char* key) {
  const double value = config.real(key, 1.0);
  if (!(value > 0)) config.fail(std::string(key) + " is not above 0");
  return static_cast<float>(value);
}

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.ids = {1, 2, -1};
  stage::DecoderConfig model = read_llama_line(config, usual);
  const bool bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_value_bias = model.attention.output_bias = bias;
  model.attention.scale = factor(config, "attention_multiplier");
  model.embedding.scale = factor(config, "embedding_multiplier");
  model.residual_scale = factor(config, "residual_multiplier");
  model.head.scale = 1.0F / factor(config, "logits_scaling");
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  model.mixture.experts = config.size("num_local_experts", 8);
  model.mixture.width = model.mlp.width;
  model.mixture.router.chosen = config.size("num_experts_per_tok", 2);
  model.mixture.router.normalised = true;  // softmax over the chosen logits
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  const std::int64_t width = model.mixture.width;
  const std::string block = "model.layers.*.block_sparse_moe.";
  return llama_names()
      .add("layers.*.mlp.router", block + "router.layer")
      .add_expert_rows("layers.*.mlp.experts.#.gate.weight", block + "input_linear.weight",
                       {0, width, 0}, 2 * width)
      .add_expert_rows("layers.*.mlp.experts.#.up.weight", block + "input_linear.weight",
                       {width, width, 0}, 2 * width)
      .add_expert_rows("layers.*.mlp.experts.#.down.weight", block + "output_linear.weight",
                       {0, model.hidden, 0}, model.hidden);
}

}  // namespace

const Family& granitemoe_family() {
  static const Family family{"granitemoe", "Granite-MoE", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
