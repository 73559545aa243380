// GPT-NeoX and Pythia: attention and MLP in parallel behind a norm each, or one after the other;
// rotary positions on a part of each head.
// Source of keys, defaults and names: transformers' configuration_gpt_neox.py,
// modeling_gpt_neox.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model;
  model.layers = config.size("num_hidden_layers", 44);
  model.hidden = model.embedding.width = config.size("hidden_size", 6144);
  model.vocabulary = config.size("vocab_size", 50432);
  model.max_positions = config.size("max_position_embeddings", 2048);
  model.norm.epsilon = static_cast<float>(config.real("layer_norm_eps", 1e-5));
  model.residual = config.flag("use_parallel_residual", true) ? stage::Residual::parallel
                                                              : stage::Residual::sequential;

  const std::int32_t heads = config.size("num_attention_heads", 64);
  const std::int32_t width = even_head_width(config, model.hidden, heads, "num_attention_heads");
  const bool bias = config.flag("attention_bias", true);
  model.attention = usual_attention(heads, heads, width, bias, bias);
  RotaryKeys keys = rotary_keys(model);
  keys.theta = config.first_of({"rotary_emb_base", "rope_theta"});
  keys.part = config.first_of({"rotary_pct", "partial_rotary_factor"});
  keys.usual_part = 0.25;
  model.positions.kind = stage::PositionKind::rotary;
  model.positions.rotary = {read_rotary(config, width, keys)};
  model.mlp = {config.size("intermediate_size", 24576),
               read_activation(config, "hidden_act", "gelu"), true};
  model.head.tied = config.flag("tie_word_embeddings", false);
  read_ids(config, {0, 2, -1}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  const std::int64_t width = model.attention.head_width;
  const bool parallel = model.residual == stage::Residual::parallel;
  return TensorNames({"gpt_neox.", ""})
      .add("embedding.tokens", "embed_in")
      .add("layers.*.attention.norm", "layers.*.input_layernorm")
      .add("layers.*.attention.query", "layers.*.attention.query_key_value", {0, width, 3 * width})
      .add("layers.*.attention.key", "layers.*.attention.query_key_value",
           {width, width, 3 * width})
      .add("layers.*.attention.value", "layers.*.attention.query_key_value",
           {2 * width, width, 3 * width})
      .add("layers.*.attention.output", "layers.*.attention.dense")
      .add(parallel ? "layers.*.attention.parallel_norm" : "layers.*.mlp.norm",
           "layers.*.post_attention_layernorm")
      .add("layers.*.mlp.up", "layers.*.mlp.dense_h_to_4h")
      .add("layers.*.mlp.down", "layers.*.mlp.dense_4h_to_h")
      .add("head.norm", "final_layer_norm")
      .add("head.tokens", "embed_out");
}

}  // namespace

const Family& gpt_neox_family() {
  static const Family family{"gpt_neox", "GPT-NeoX and Pythia", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
