// GLM-4.5: the Llama line with rotary positions by halves on a part of each head, plain MLPs in the
// first layers, then experts and one that all rows go through. Layers behind the last one, for
// guessing tokens ahead, are not read.
// Source of keys, defaults and names: transformers' configuration_glm4_moe.py and
// modeling_glm4_moe.py.
#include <cstdint>
#include <string>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 151552;
  usual.mlp = 10944;
  usual.layers = 46;
  usual.heads = 96;
  usual.kv_heads = 8;
  usual.positions = 131072;
  usual.epsilon = 1e-5;
  usual.ids = {-1, 151329, 151329};
  stage::DecoderConfig model = read_llama_line(config, usual);
  model.attention.query_key_value_bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_norm = config.flag("use_qk_norm", false);
  RotaryKeys keys = rotary_keys(model);
  keys.usual_part = 0.5;
  model.positions.rotary = {read_rotary(config, model.attention.head_width, keys)};

  stage::MixtureTraits& mixture = model.mixture;
  mixture.experts = config.size("n_routed_experts", 128);
  mixture.width = config.size("moe_intermediate_size", 1408);
  mixture.correction = true;
  const std::int64_t shared = std::int64_t{mixture.width} * config.size("n_shared_experts", 1);
  if (shared > INT32_MAX) config.fail("n_shared_experts is too large");
  mixture.shared_width = static_cast<std::int32_t>(shared);
  kernels::RouterRule& router = mixture.router;
  router.chosen = config.size("num_experts_per_tok", 8);
  router.score = kernels::RouterScore::sigmoid;
  router.normalised = config.flag("norm_topk_prob", true);
  router.scale = static_cast<float>(config.real("routed_scaling_factor", 1.0));
  router.groups = config.size("n_group", 1);
  router.kept_groups = config.size("topk_group", 1);
  router.group_best = 2;
  const std::int32_t plain = config.integer("first_k_dense_replace", 1);
  set_layers_with_experts([&](std::int32_t layer) { return layer >= plain; }, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  const std::string mlp = "model.layers.*.mlp.";
  return with_head_norms(with_experts(llama_names()))
      .add_exactly("layers.*.mlp.correction.bias", mlp + "gate.e_score_correction_bias")
      .add("layers.*.mlp.shared.gate", mlp + "shared_experts.gate_proj")
      .add("layers.*.mlp.shared.up", mlp + "shared_experts.up_proj")
      .add("layers.*.mlp.shared.down", mlp + "shared_experts.down_proj");
}

}  // namespace

const Family& glm4_moe_family() {
  static const Family family{"glm4_moe", "GLM-4.5", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
