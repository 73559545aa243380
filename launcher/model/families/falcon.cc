// Falcon with rotary positions: one key and value head for all query heads (7B), or one for each
// group (40B, 180B, 11B); attention and MLP in parallel, behind one norm or two.
// Source of keys, defaults and names: transformers' configuration_falcon.py and modeling_falcon.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::Residual residual_of(const ConfigReader& config, bool is_new) {
  if (!is_new && !config.flag("parallel_attn", true)) return stage::Residual::sequential;
  const std::int32_t norms =
      is_new ? config.integer("num_ln_in_parallel_attn", 2, IfNull::absent) : 1;
  return norms == 2 ? stage::Residual::parallel : stage::Residual::parallel_one_norm;
}

stage::DecoderConfig read_config(const ConfigReader& config) {
  if (config.flag("alibi", false)) {
    config.fail(
        "alibi is true, and Falcon's own form of linear biases (falcon-rw) cannot run: it rounds "
        "them to 16 bits");
  }
  stage::DecoderConfig model;
  model.layers = config.size(config.first_of({"num_hidden_layers", "n_layer"}), 32);
  model.hidden = model.embedding.width = config.size("hidden_size", 4544);
  model.vocabulary = config.size("vocab_size", 65024);
  model.max_positions = config.size("max_position_embeddings", 2048);
  model.norm.epsilon = static_cast<float>(config.real("layer_norm_epsilon", 1e-5));
  config.refuse_flag("apply_residual_connection_post_layernorm");

  const bool is_new = config.flag("new_decoder_architecture", false);
  model.residual = residual_of(config, is_new);
  const char* const heads_key = config.first_of({"num_attention_heads", "n_head"});
  const std::int32_t heads = config.size(heads_key, 71);
  const std::int32_t width = even_head_width(config, model.hidden, heads, heads_key);
  const char* const groups_key = config.first_of({"num_kv_heads", "n_head_kv"});
  const bool shared = !is_new && config.flag("multi_query", true);
  const std::int32_t groups = is_new   ? config.size(groups_key, heads, IfNull::absent)
                              : shared ? 1
                                       : heads;
  const bool bias = config.flag("bias", false);
  model.attention = usual_attention(heads, groups, width, bias, bias);
  model.positions.kind = stage::PositionKind::rotary;
  model.positions.rotary = {read_rotary(config, width, rotary_keys(model))};
  model.mlp = {config.size("ffn_hidden_size", four_times(model.hidden), IfNull::absent),
               read_activation(config, "activation", "gelu"), bias};
  model.head.tied = config.flag("tie_word_embeddings", true);
  read_ids(config, {11, 11, -1}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  // Rows of each group: its query heads, its key head, its value head.
  const std::int64_t width = model.attention.head_width;
  const std::int64_t queries = model.attention.query_width() / model.attention.kv_heads;
  const std::int64_t group = queries + 2 * width;
  const bool two_norms = model.residual == stage::Residual::parallel;
  TensorNames names({"transformer.", ""});
  names.add("embedding.tokens", "word_embeddings")
      .add("layers.*.attention.norm", two_norms ? "h.*.ln_attn" : "h.*.input_layernorm")
      .add("layers.*.attention.query", "h.*.self_attention.query_key_value", {0, queries, group})
      .add("layers.*.attention.key", "h.*.self_attention.query_key_value", {queries, width, group})
      .add("layers.*.attention.value", "h.*.self_attention.query_key_value",
           {queries + width, width, group})
      .add("layers.*.attention.output", "h.*.self_attention.dense")
      .add("layers.*.mlp.up", "h.*.mlp.dense_h_to_4h")
      .add("layers.*.mlp.down", "h.*.mlp.dense_4h_to_h")
      .add("head.norm", "ln_f")
      .add("head.tokens", "lm_head");
  if (two_norms) names.add("layers.*.attention.parallel_norm", "h.*.ln_mlp");
  if (model.residual == stage::Residual::sequential) {
    names.add("layers.*.mlp.norm", "h.*.post_attention_layernorm");
  }
  return names;
}

}  // namespace

const Family& falcon_family() {
  static const Family family{"falcon", "Falcon", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
