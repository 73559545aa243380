// Gemma 2, and Gemma 3's text part: the Llama line with norms before and after each block whose
// weights count from 1, an embedding times the root of its width, tanh GELU, and windows in most
// layers. Gemma 2 caps scores and logits; Gemma 3 norms query and key, and its windowed layers turn
// with a base of their own.
// Source of keys, defaults and names: transformers' configuration_gemma2.py, modeling_gemma2.py,
// configuration_gemma3.py and modeling_gemma3.py.
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_both(const ConfigReader& config, LlamaUsual usual) {
  usual.hidden = 2304;
  usual.mlp = 9216;
  usual.layers = 26;
  usual.heads = 8;
  usual.kv_heads = 4;
  usual.head_width = 256;
  usual.tied = true;
  usual.activation_key = "hidden_activation";
  usual.activation = "gelu_pytorch_tanh";
  usual.ids = {2, 1, 0};
  stage::DecoderConfig model = read_llama_line(config, usual);
  model.norm.place = stage::NormPlace::around;
  model.norm.weight_offset = 1.0F;
  model.embedding.scale = std::sqrt(static_cast<float>(model.hidden));
  const bool bias = config.flag("attention_bias", false, IfNull::absent);
  model.attention.query_key_value_bias = model.attention.output_bias = bias;
  const double scalar = config.real("query_pre_attn_scalar", 256);
  if (!(scalar > 0)) config.fail("query_pre_attn_scalar is not above 0");
  model.attention.scale = static_cast<float>(1.0 / std::sqrt(scalar));
  return model;
}

/// A cap; null: none.
float read_cap(const ConfigReader& config, const char* key, double usual) {
  const double cap = config.has(key) ? config.real(key, 0, IfNull::absent) : usual;
  if (cap < 0) config.fail(std::string(key) + " is below 0");
  return static_cast<float>(cap);
}

stage::DecoderConfig read_gemma2(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 256000;
  usual.positions = 8192;
  stage::DecoderConfig model = read_both(config, usual);
  model.attention.soft_cap = read_cap(config, "attn_logit_softcapping", 50);
  model.head.soft_cap = read_cap(config, "final_logit_softcapping", 30);
  const std::int32_t window = config.integer("sliding_window", 4096, IfNull::absent);
  model.attention.windows = read_windows(config, model.layers, window, [&](std::int32_t layer) {
    return window > 0 && layer % 2 == 0;
  });
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  return model;
}

/// Of windowed layers: never scaled.
stage::RotaryTraits read_local_rotary(const ConfigReader& config, std::int32_t head_width) {
  RotaryKeys keys;
  keys.theta = "rope_local_base_freq";
  keys.layer_type = "sliding_attention";
  if (config.has("rope_parameters")) return read_rotary(config, head_width, keys);
  return plain_rotary(head_width, config.real(keys.theta, keys.usual_theta), false);
}

stage::DecoderConfig read_gemma3_text(const ConfigReader& config) {
  LlamaUsual usual;
  usual.vocabulary = 262208;
  usual.positions = 131072;
  stage::DecoderConfig model = read_both(config, usual);
  config.refuse_flag("use_bidirectional_attention");
  model.attention.query_key_norm = true;
  model.attention.soft_cap = read_cap(config, "attn_logit_softcapping", 0);
  model.head.soft_cap = read_cap(config, "final_logit_softcapping", 0);
  const std::int32_t window = config.integer("sliding_window", 4096, IfNull::absent);
  const std::int32_t pattern = config.size(
      config.first_of({"sliding_window_pattern", "_sliding_window_pattern"}), 6, IfNull::absent);
  model.attention.windows = read_windows(config, model.layers, window, [&](std::int32_t layer) {
    return window > 0 && (layer + 1) % pattern != 0;
  });

  RotaryKeys keys = rotary_keys(model);
  keys.usual_theta = 1e6;
  keys.layer_type = "full_attention";
  const stage::RotaryTraits full = read_rotary(config, model.attention.head_width, keys);
  model.positions.rotary = {full, read_local_rotary(config, model.attention.head_width)};
  for (std::int32_t layer = 0; layer < std::min(model.layers, stage::kMostLayers); ++layer) {
    model.positions.rotary_of_layer.push_back(model.attention.window_of(layer) > 0 ? 1 : 0);
  }
  return model;
}

stage::DecoderConfig read_gemma3(const ConfigReader& config) {
  const std::optional<ConfigReader> text = config.object("text_config");
  if (!text) config.fail("there is no text_config");
  return read_gemma3_text(*text);
}

TensorNames name_gemma2(const stage::DecoderConfig& /*model*/) {
  return llama_names({"", "language_model."})
      .add("layers.*.attention.out_norm", "model.layers.*.post_attention_layernorm")
      .add("layers.*.mlp.norm", "model.layers.*.pre_feedforward_layernorm")
      .add("layers.*.mlp.out_norm", "model.layers.*.post_feedforward_layernorm");
}

TensorNames name_gemma3(const stage::DecoderConfig& model) {
  return with_head_norms(name_gemma2(model));
}

}  // namespace

const Family& gemma2_family() {
  static const Family family{"gemma2", "Gemma 2", &read_gemma2, &name_gemma2};
  return family;
}

const Family& gemma3_text_family() {
  static const Family family{"gemma3_text", "Gemma 3", &read_gemma3_text, &name_gemma3};
  return family;
}

const Family& gemma3_family() {
  static const Family family{"gemma3", "Gemma 3, text only", &read_gemma3, &name_gemma3};
  return family;
}

}  // namespace sluice::launcher
