// Qwen2 and Qwen2.5: Llama's layout, with biases on query, key and value; a sliding window only
// where use_sliding_window says so.
// Source of keys, defaults and names: transformers' configuration_qwen2.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 151936;
  usual.mlp = 22016;
  usual.kv_heads = 32;
  usual.positions = 32768;
  usual.ids = {-1, 151643, -1};  // <|endoftext|>
  stage::DecoderConfig model = read_llama_line(config, usual);
  model.attention.query_key_value_bias = true;
  model.attention.windows = read_qwen_windows(config, model.layers);
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) { return llama_names(); }

}  // namespace

const Family& qwen2_family() {
  static const Family family{"qwen2", "Qwen2", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
