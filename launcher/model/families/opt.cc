// OPT: a learned table of positions that begins with two unused rows, layer norms before the blocks
// (after them in OPT-350m, which also projects its embedding), and an embedding that is the head.
// Source of keys, defaults and names: transformers' configuration_opt.py and modeling_opt.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model;
  model.layers = config.size("num_hidden_layers", 12);
  model.hidden = config.size("hidden_size", 768);
  model.vocabulary = config.size("vocab_size", 50272);
  model.max_positions = config.size("max_position_embeddings", 2048);
  model.embedding.width = config.size("word_embed_proj_dim", model.hidden, IfNull::absent);
  model.positions.offset = 2;  // OPTLearnedPositionalEmbedding

  const bool norm_before = config.flag("do_layer_norm_before", true);
  model.norm.place = norm_before ? stage::NormPlace::before : stage::NormPlace::after;
  model.norm.affine = config.flag("layer_norm_elementwise_affine", true);

  const std::int32_t heads = config.size("num_attention_heads", 12);
  const std::int32_t head_width =
      even_head_width(config, model.hidden, heads, "num_attention_heads");
  const bool bias = config.flag("enable_bias", true);
  model.attention = usual_attention(heads, heads, head_width, bias, bias);
  model.mlp = {config.size("ffn_dim", 3072), read_activation(config, "activation_function", "relu"),
               bias};

  model.head.norm = norm_before && !config.flag("_remove_final_layer_norm", false);
  model.head.tied = config.flag("tie_word_embeddings", true);
  read_ids(config, {2, 2, 1}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  return TensorNames({"", "model.", "decoder.", "model.decoder."})
      .add("embedding.tokens", "embed_tokens")
      .add("embedding.positions", "embed_positions")
      .add("embedding.project", "project_in")
      .add("layers.*.attention.norm", "layers.*.self_attn_layer_norm")
      .add("layers.*.attention.query", "layers.*.self_attn.q_proj")
      .add("layers.*.attention.key", "layers.*.self_attn.k_proj")
      .add("layers.*.attention.value", "layers.*.self_attn.v_proj")
      .add("layers.*.attention.output", "layers.*.self_attn.out_proj")
      .add("layers.*.mlp.norm", "layers.*.final_layer_norm")
      .add("layers.*.mlp.up", "layers.*.fc1")
      .add("layers.*.mlp.down", "layers.*.fc2")
      .add("head.norm", "final_layer_norm")
      .add("head.project", "project_out")
      .add("head.tokens", "lm_head");
}

}  // namespace

const Family& opt_family() {
  static const Family family{"opt", "OPT", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
