// Qwen1.5-MoE and Qwen2-MoE: Qwen2 with experts in some layers, and beside them one that all rows
// go through, behind a gate of its own.
// Source of keys, defaults and names: transformers' configuration_qwen2_moe.py and
// modeling_qwen2_moe.py.
#include <cstdint>
#include <string>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 151936;
  usual.hidden = 2048;
  usual.mlp = 5632;
  usual.layers = 24;
  usual.heads = 16;
  usual.kv_heads = 16;
  usual.positions = 32768;
  usual.ids = {-1, 151643, -1};  // <|endoftext|>
  stage::DecoderConfig model = read_llama_line(config, usual);
  model.attention.query_key_value_bias = config.flag("qkv_bias", true);
  // Versions of transformers disagree on which layers have it. No published model has.
  config.refuse_flag("use_sliding_window");
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  model.mixture.shared_width = config.size("shared_expert_intermediate_size", 5632);
  model.mixture.shared_switch = true;
  read_qwen_experts(config, {60, 1408, 4}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  const std::string shared = "model.layers.*.mlp.shared_expert";
  return with_experts(llama_names())
      .add("layers.*.mlp.shared.gate", shared + ".gate_proj")
      .add("layers.*.mlp.shared.up", shared + ".up_proj")
      .add("layers.*.mlp.shared.down", shared + ".down_proj")
      .add("layers.*.mlp.shared.switch", shared + "_gate");
}

}  // namespace

const Family& qwen2_moe_family() {
  static const Family family{"qwen2_moe", "Qwen2-MoE", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
