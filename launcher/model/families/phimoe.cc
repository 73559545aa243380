// Phi-3.5-MoE: Mixtral's names, layer norms with biases, biases in attention, a router that weighs
// each of its two experts among those that are near it, and longrope with factors of its own.
// Source of keys, defaults and names: transformers' configuration_phimoe.py and modeling_phimoe.py.
#include <algorithm>
#include <optional>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

/// Sine and cosine have one factor up to the border and another beyond it. Where they differ, only
/// sequences up to the border can run: versions of transformers disagree about the others.
void read_factors(const ConfigReader& config, stage::DecoderConfig& model) {
  const std::optional<ConfigReader> scaling = config.object("rope_scaling");
  stage::RotaryTraits& rotary = model.positions.rotary.front();
  if (!scaling || rotary.long_frequencies.empty()) return;
  const double before = scaling->real("short_mscale", 1.0);
  const double beyond = scaling->real("long_mscale", 1.0);
  rotary.factor = static_cast<float>(before);
  if (before == beyond) return;
  model.max_positions = std::min(model.max_positions, rotary.long_after);
  rotary.long_frequencies.clear();
  rotary.long_after = 0;
}

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 32064;
  usual.mlp = 6400;
  usual.kv_heads = 8;
  usual.positions = 131072;
  usual.epsilon = 1e-5;
  usual.ids = {1, 2, -1};
  stage::DecoderConfig model = read_llama_line(config, usual);
  model.norm.kind = stage::NormKind::layer;
  const bool bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_value_bias = model.attention.output_bias = bias;
  model.head.bias = config.flag("lm_head_bias", false, IfNull::absent);
  const std::int32_t window = config.integer("sliding_window", 0, IfNull::absent);
  model.attention.windows =
      read_windows(config, model.layers, window, [&](std::int32_t) { return window > 0; });
  RotaryKeys keys = rotary_keys(model);
  keys.usual_theta = 1e6;
  model.positions.rotary = {read_rotary(config, model.attention.head_width, keys)};
  read_factors(config, model);

  model.mixture.experts = config.size("num_local_experts", 16);
  model.mixture.width = model.mlp.width;
  kernels::RouterRule& router = model.mixture.router;
  router.score = kernels::RouterScore::sparse_mixer;
  router.chosen = config.size("num_experts_per_tok", 2);
  if (router.chosen != 2) config.fail("num_experts_per_tok is not 2, and only 2 can run");
  router.nearness = static_cast<float>(2 * config.real("router_jitter_noise", 0.01));
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  return with_experts(llama_names(), {"block_sparse_moe", "w1", "w3", "w2"});
}

}  // namespace

const Family& phimoe_family() {
  static const Family family{"phimoe", "Phi-3.5-MoE", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
