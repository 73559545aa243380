// Qwen3-MoE: Qwen3 with experts in some layers, which are all of the published ones.
// Source of keys, defaults and names: transformers' configuration_qwen3_moe.py and
// modeling_qwen3_moe.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 151936;
  usual.hidden = 2048;
  usual.mlp = 6144;
  usual.layers = 24;
  usual.kv_heads = 4;
  usual.positions = 32768;
  usual.ids = {-1, 151643, -1};  // <|endoftext|>
  stage::DecoderConfig model = read_llama_line(config, usual);
  const bool bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_value_bias = model.attention.output_bias = bias;
  model.attention.query_key_norm = true;
  const bool windowed = config.flag("use_sliding_window", false, IfNull::absent);
  const std::int32_t window =
      config.has("sliding_window") ? config.integer("sliding_window", 0, IfNull::absent) : 4096;
  model.attention.windows = read_windows(config, model.layers, windowed ? window : 0,
                                         [&](std::int32_t) { return windowed && window > 0; });
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  read_qwen_experts(config, {128, 768, 8}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  return with_head_norms(with_experts(llama_names()));
}

}  // namespace

const Family& qwen3_moe_family() {
  static const Family family{"qwen3_moe", "Qwen3-MoE", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
