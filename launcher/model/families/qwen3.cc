// Qwen3: Llama's layout, with an RMS norm over each head of query and key before they turn.
// Source of keys, defaults and names: transformers' configuration_qwen3.py and modeling_qwen3.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 151936;
  usual.mlp = 22016;
  usual.kv_heads = 32;
  usual.head_width = 128;
  usual.positions = 32768;
  usual.ids = {-1, 151643, -1};  // <|endoftext|>
  stage::DecoderConfig model = read_llama_line(config, usual);
  const bool bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_value_bias = model.attention.output_bias = bias;
  model.attention.query_key_norm = true;
  model.attention.windows = read_qwen_windows(config, model.layers);
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  return with_head_norms(llama_names());
}

}  // namespace

const Family& qwen3_family() {
  static const Family family{"qwen3", "Qwen3", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
