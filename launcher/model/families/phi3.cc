// Phi-3 and Phi-4: the Llama line with query, key and value in one matrix, gate and up in another,
// and longrope, whose frequencies depend on how long a sequence may grow.
// Source of keys, defaults and names: transformers' configuration_phi3.py and modeling_phi3.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 32064;
  usual.hidden = 3072;
  usual.mlp = 8192;
  usual.positions = 4096;
  usual.epsilon = 1e-5;
  usual.ids = {1, 32000, 32000};
  stage::DecoderConfig model = read_llama_line(config, usual);
  const std::int32_t window = config.integer("sliding_window", 0, IfNull::absent);
  model.attention.windows =
      read_windows(config, model.layers, window, [&](std::int32_t) { return window > 0; });
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  const std::int64_t query = model.attention.query_width();
  const std::int64_t kv = model.attention.kv_width();
  return fused_gate_and_up(llama_names(), model)
      .add("layers.*.attention.query", "model.layers.*.self_attn.qkv_proj", {0, query, 0})
      .add("layers.*.attention.key", "model.layers.*.self_attn.qkv_proj", {query, kv, 0})
      .add("layers.*.attention.value", "model.layers.*.self_attn.qkv_proj", {query + kv, kv, 0});
}

}  // namespace

const Family& phi3_family() {
  static const Family family{"phi3", "Phi-3", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
