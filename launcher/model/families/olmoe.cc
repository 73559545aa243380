// OLMoE: the Llama line with experts in every layer; query and key are normed over all their heads
// together, and may be kept within bounds.
// Source of keys, defaults and names: transformers' configuration_olmoe.py and modeling_olmoe.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 50304;
  usual.hidden = 2048;
  usual.mlp = 2048;
  usual.layers = 16;
  usual.heads = 16;
  usual.positions = 4096;
  usual.epsilon = 1e-5;
  usual.ids = {-1, 50279, 1};
  stage::DecoderConfig model = read_llama_line(config, usual);
  const bool bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_value_bias = model.attention.output_bias = bias;
  model.attention.query_key_norm = model.attention.whole_norm = true;
  model.attention.clip = static_cast<float>(config.real("clip_qkv", 0, IfNull::absent));
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  model.mixture.experts = config.size("num_experts", 64);
  model.mixture.width = model.mlp.width;
  model.mixture.router.chosen = config.size("num_experts_per_tok", 8);
  model.mixture.router.normalised = config.flag("norm_topk_prob", false);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  return with_head_norms(with_experts(llama_names()));
}

}  // namespace

const Family& olmoe_family() {
  static const Family family{"olmoe", "OLMoE", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
