// GPT-2: layer norms before the blocks, learned positions, biases everywhere, and matrices stored
// as [inputs, outputs].
// Source of keys, defaults and names: transformers' configuration_gpt2.py and modeling_gpt2.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model;
  model.layers = config.size(config.first_of({"n_layer", "num_hidden_layers"}), 12);
  model.hidden = model.embedding.width =
      config.size(config.first_of({"n_embd", "hidden_size"}), 768);
  model.vocabulary = config.size("vocab_size", 50257);
  model.max_positions =
      config.size(config.first_of({"n_positions", "max_position_embeddings"}), 1024);
  model.norm.epsilon = static_cast<float>(config.real("layer_norm_epsilon", 1e-5));

  const char* const heads_key = config.first_of({"n_head", "num_attention_heads"});
  const std::int32_t heads = config.size(heads_key, 12);
  const std::int32_t width = even_head_width(config, model.hidden, heads, heads_key);
  model.attention = usual_attention(heads, heads, width, true, true);
  if (!config.flag("scale_attn_weights", true)) model.attention.scale = 1.0F;
  model.attention.scale_by_layer = config.flag("scale_attn_by_inverse_layer_idx", false);
  config.refuse_flag("add_cross_attention");
  model.mlp = {config.size("n_inner", four_times(model.hidden), IfNull::absent),
               read_activation(config, "activation_function", "gelu_new"), true};
  model.head.tied = config.flag("tie_word_embeddings", true);
  read_ids(config, {50256, 50256, -1}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  const std::int64_t width = model.hidden;
  return TensorNames({"", "transformer."})
      .add("embedding.tokens", "wte")
      .add("embedding.positions", "wpe")
      .add("layers.*.attention.norm", "h.*.ln_1")
      .add_transposed("layers.*.attention.query", "h.*.attn.c_attn", {0, width, 0})
      .add_transposed("layers.*.attention.key", "h.*.attn.c_attn", {width, width, 0})
      .add_transposed("layers.*.attention.value", "h.*.attn.c_attn", {2 * width, width, 0})
      .add_transposed("layers.*.attention.output", "h.*.attn.c_proj")
      .add("layers.*.mlp.norm", "h.*.ln_2")
      .add_transposed("layers.*.mlp.up", "h.*.mlp.c_fc")
      .add_transposed("layers.*.mlp.down", "h.*.mlp.c_proj")
      .add("head.norm", "ln_f")
      .add("head.tokens", "lm_head");
}

}  // namespace

const Family& gpt2_family() {
  static const Family family{"gpt2", "GPT-2", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
