// BLOOM and BLOOMZ: linear biases instead of positions, a norm right after the embedding, query,
// key and value of each head side by side in one matrix.
// Source of keys, defaults and names: transformers' configuration_bloom.py and modeling_bloom.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model;
  model.layers = config.size(config.first_of({"n_layer", "num_hidden_layers"}), 2);
  model.hidden = model.embedding.width =
      config.size(config.first_of({"hidden_size", "n_embed", "n_embd"}), 64);
  model.vocabulary = config.size("vocab_size", 250880);
  // Nothing in the model ends there: it is what the published ones were trained with.
  model.max_positions = config.size("seq_length", 2048, IfNull::absent);
  model.positions.kind = stage::PositionKind::alibi;
  model.embedding.norm = true;
  model.norm.epsilon = static_cast<float>(config.real("layer_norm_epsilon", 1e-5));
  config.refuse_flag("apply_residual_connection_post_layernorm");

  const char* const heads_key = config.first_of({"n_head", "num_attention_heads"});
  const std::int32_t heads = config.size(heads_key, 8);
  const std::int32_t width = even_head_width(config, model.hidden, heads, heads_key);
  model.attention = usual_attention(heads, heads, width, true, true);
  model.mlp = {four_times(model.hidden), kernels::Activation::gelu_tanh, true};
  model.head.tied = config.flag("tie_word_embeddings", true);
  read_ids(config, {1, 2, 3}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  const std::int64_t width = model.attention.head_width;
  return TensorNames({"", "transformer."})
      .add("embedding.tokens", "word_embeddings")
      .add("embedding.norm", "word_embeddings_layernorm")
      .add("layers.*.attention.norm", "h.*.input_layernorm")
      .add("layers.*.attention.query", "h.*.self_attention.query_key_value", {0, width, 3 * width})
      .add("layers.*.attention.key", "h.*.self_attention.query_key_value",
           {width, width, 3 * width})
      .add("layers.*.attention.value", "h.*.self_attention.query_key_value",
           {2 * width, width, 3 * width})
      .add("layers.*.attention.output", "h.*.self_attention.dense")
      .add("layers.*.mlp.norm", "h.*.post_attention_layernorm")
      .add("layers.*.mlp.up", "h.*.mlp.dense_h_to_4h")
      .add("layers.*.mlp.down", "h.*.mlp.dense_4h_to_h")
      .add("head.norm", "ln_f")
      .add("head.tokens", "lm_head");
}

}  // namespace

const Family& bloom_family() {
  static const Family family{"bloom", "BLOOM", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
