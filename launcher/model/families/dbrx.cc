// DBRX: layer norms without biases, query, key and value in one matrix and kept within bounds, and
// the matrices of all experts one under another, those of the last product untransposed.
// Source of keys, defaults and names: transformers' configuration_dbrx.py and modeling_dbrx.py.
#include <cstdint>
#include <string>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

/// An object of keys, which may be absent with all of them.
ConfigReader part_of(const ConfigReader& config, const char* key) {
  return config.object(key).value_or(ConfigReader(config.where(), std::string("{}")));
}

void read_experts(const ConfigReader& ffn, stage::DecoderConfig& model) {
  const ConfigReader activation = part_of(ffn, "ffn_act_fn");
  model.mlp = {ffn.size("ffn_hidden_size", 3584), read_activation(activation, "name", "silu"),
               false, true};
  model.mixture.experts = ffn.size("moe_num_experts", 4);
  model.mixture.width = model.mlp.width;
  model.mixture.router.chosen = ffn.size("moe_top_k", 1);
  // Absent: 1; null: the weights stay as they are.
  const double norm = ffn.has("moe_normalize_expert_weights")
                          ? ffn.real("moe_normalize_expert_weights", 0, IfNull::absent)
                          : 1.0;
  if (norm != 0 && norm != 1) {
    ffn.fail("moe_normalize_expert_weights is neither 1 nor null, and no other norm can run");
  }
  model.mixture.router.normalised = norm == 1;
}

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model;
  model.layers = config.size("n_layers", 24);
  model.hidden = model.embedding.width = config.size("d_model", 2048);
  model.vocabulary = config.size("vocab_size", 32000);
  model.max_positions = config.size("max_seq_len", 2048);
  model.norm.bias = false;
  const std::int32_t heads = config.size("n_heads", 16);
  const std::int32_t width = even_head_width(config, model.hidden, heads, "n_heads");
  const ConfigReader attention = part_of(config, "attn_config");
  model.attention = usual_attention(heads, attention.size("kv_n_heads", 1), width, false, false);
  model.attention.clip = static_cast<float>(attention.real("clip_qkv", 0, IfNull::absent));
  model.positions.kind = stage::PositionKind::rotary;
  model.positions.rotary = {read_rotary(attention, width, rotary_keys(model))};
  read_experts(part_of(config, "ffn_config"), model);
  model.head.tied = config.flag("tie_word_embeddings", false);
  read_ids(config, {-1, 100257, -1}, model);  // <|endoftext|>
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  const std::int64_t query = model.attention.query_width();
  const std::int64_t kv = model.attention.kv_width();
  const std::int64_t width = model.mixture.width;
  const std::string norms = "blocks.*.norm_attn_norm.";
  const std::string experts = "blocks.*.ffn.experts.mlp.";
  TensorNames names({"transformer.", ""});
  names.add("embedding.tokens", "wte")
      .add("layers.*.attention.norm", norms + "norm_1")
      .add("layers.*.attention.query", norms + "attn.Wqkv", {0, query, 0})
      .add("layers.*.attention.key", norms + "attn.Wqkv", {query, kv, 0})
      .add("layers.*.attention.value", norms + "attn.Wqkv", {query + kv, kv, 0})
      .add("layers.*.attention.output", norms + "attn.out_proj")
      .add("layers.*.mlp.norm", norms + "norm_2")
      .add("layers.*.mlp.router", "blocks.*.ffn.router.layer")
      .add_expert_rows("layers.*.mlp.experts.#.gate.weight", experts + "w1", {0, width, 0}, width)
      .add_expert_rows("layers.*.mlp.experts.#.up.weight", experts + "v1", {0, width, 0}, width)
      .add_expert_columns("layers.*.mlp.experts.#.down.weight", experts + "w2", width)
      .add("head.norm", "norm_f")
      .add("head.tokens", "lm_head");
  return names;
}

}  // namespace

const Family& dbrx_family() {
  static const Family family{"dbrx", "DBRX", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
