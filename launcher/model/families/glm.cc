// GLM-4 as transformers has it ("glm"), and the models of April 2025 ("glm4"), whose blocks also
// norm what they give: the Llama line with rotary positions by neighbours on half of each head, and
// gate and up in one matrix.
// Source of keys, defaults and names: transformers' configuration_glm.py, modeling_glm.py and
// modeling_glm4.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 151552;
  usual.mlp = 13696;
  usual.layers = 40;
  usual.kv_heads = 2;
  usual.head_width = 128;
  usual.positions = 131072;
  usual.epsilon = 1.5625e-7;
  usual.ids = {-1, 151329, 151329};
  stage::DecoderConfig model = read_llama_line(config, usual);
  model.attention.query_key_value_bias = config.flag("attention_bias", true, IfNull::absent);
  RotaryKeys keys = rotary_keys(model);
  keys.usual_part = 0.5;
  keys.neighbours = true;
  model.positions.rotary = {read_rotary(config, model.attention.head_width, keys)};
  return model;
}

stage::DecoderConfig read_config_of_2025(const ConfigReader& config) {
  stage::DecoderConfig model = read_config(config);
  model.norm.place = stage::NormPlace::around;
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  return fused_gate_and_up(llama_names(), model);
}

TensorNames name_tensors_of_2025(const stage::DecoderConfig& model) {
  return name_tensors(model)
      .add("layers.*.attention.out_norm", "model.layers.*.post_self_attn_layernorm")
      .add("layers.*.mlp.out_norm", "model.layers.*.post_mlp_layernorm");
}

}  // namespace

const Family& glm_family() {
  static const Family family{"glm", "GLM-4", &read_config, &name_tensors};
  return family;
}

const Family& glm4_family() {
  static const Family family{"glm4", "GLM-4-0414", &read_config_of_2025, &name_tensors_of_2025};
  return family;
}

}  // namespace sluice::launcher
