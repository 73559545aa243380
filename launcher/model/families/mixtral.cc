// Mixtral: Mistral's layout, with experts in the place of every MLP.
// Source of keys, defaults and names: transformers' configuration_mixtral.py, modeling_mixtral.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.mlp = 14336;
  usual.kv_heads = 8;
  usual.positions = 131072;
  usual.epsilon = 1e-5;
  usual.ids = {1, 2, -1};
  stage::DecoderConfig model = read_llama_line(config, usual);
  const std::int32_t window = config.integer("sliding_window", 0, IfNull::absent);
  model.attention.windows =
      read_windows(config, model.layers, window, [&](std::int32_t) { return window > 0; });
  RotaryKeys keys = rotary_keys(model);
  keys.usual_theta = 1e6;
  model.positions.rotary = {read_rotary(config, model.attention.head_width, keys)};
  model.mixture.experts = config.size("num_local_experts", 8);
  model.mixture.width = model.mlp.width;
  model.mixture.router.chosen = config.size("num_experts_per_tok", 2);
  model.mixture.router.normalised = true;
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  return with_experts(llama_names(), {"block_sparse_moe", "w1", "w3", "w2"});
}

}  // namespace

const Family& mixtral_family() {
  static const Family family{"mixtral", "Mixtral", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
