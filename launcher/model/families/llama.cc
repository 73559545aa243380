// Llama 1, 2 and 3.x, and what is published in their layout: RMS norms, rotary positions, grouped
// heads, a gated MLP; rarely biases.
// Source of keys, defaults and names: transformers' configuration_llama.py and modeling_llama.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.ids = {1, 2, -1};
  stage::DecoderConfig model = read_llama_line(config, usual);
  const bool bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_value_bias = model.attention.output_bias = bias;
  model.mlp.bias = config.flag("mlp_bias", false, IfNull::absent);
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) { return llama_names(); }

}  // namespace

const Family& llama_family() {
  static const Family family{"llama", "Llama", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
