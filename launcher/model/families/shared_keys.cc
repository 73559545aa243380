#include "launcher/model/families/shared_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

using kernels::Activation;

Activation read_activation(const ConfigReader& config, const char* key, const char* usual) {
  struct Name {
    const char* name;
    Activation activation;
  };
  static constexpr std::array kNames = {
      Name{"relu", Activation::relu},
      Name{"gelu", Activation::gelu},
      Name{"gelu_python", Activation::gelu},
      Name{"gelu_new", Activation::gelu_tanh},
      Name{"gelu_fast", Activation::gelu_tanh},
      Name{"gelu_pytorch_tanh", Activation::gelu_tanh},
      Name{"quick_gelu", Activation::quick_gelu},
      Name{"silu", Activation::silu},
      Name{"swish", Activation::silu},
  };
  const std::string name = config.text(key, usual, IfNull::absent);
  const auto* const found =
      std::ranges::find_if(kNames, [&](const Name& each) { return each.name == name; });
  if (found != kNames.end()) return found->activation;
  config.fail(fmt::format(
      "{} is \"{}\", but only relu, gelu, gelu_new (gelu_fast, gelu_pytorch_tanh), quick_gelu and "
      "silu can run",
      key, offload::printable(name)));
}

std::int32_t even_head_width(const ConfigReader& config, std::int32_t hidden, std::int32_t heads,
                             const char* heads_key) {
  if (hidden % heads != 0) {
    config.fail(
        fmt::format("hidden states of {} are no multiple of {} {}", hidden, heads_key, heads));
  }
  return hidden / heads;
}

stage::AttentionTraits usual_attention(std::int32_t query_heads, std::int32_t kv_heads,
                                       std::int32_t head_width, bool query_key_value_bias,
                                       bool output_bias) {
  stage::AttentionTraits attention;
  attention.query_heads = query_heads;
  attention.kv_heads = kv_heads;
  attention.head_width = head_width;
  attention.query_key_value_bias = query_key_value_bias;
  attention.output_bias = output_bias;
  attention.scale = 1.0F / std::sqrt(static_cast<float>(std::max(head_width, 1)));
  return attention;
}

std::int32_t four_times(std::int32_t hidden) {
  return hidden > INT32_MAX / 4 ? INT32_MAX : 4 * hidden;
}

void read_ids(const ConfigReader& config, const UsualIds& usual, stage::DecoderConfig& model) {
  model.bos = std::max(config.integer("bos_token_id", usual.bos, IfNull::absent), -1);
  model.eos = config.integers("eos_token_id", {usual.eos}).front();
  model.pad = std::max(config.integer("pad_token_id", usual.pad, IfNull::absent), -1);
}

std::vector<std::int32_t> read_windows(const ConfigReader& config, std::int32_t layers,
                                       std::int32_t window,
                                       const std::function<bool(std::int32_t layer)>& windowed) {
  if (layers > stage::kMostLayers) return {};  // refused by DecoderConfig::validate()
  const std::vector<std::string> types = config.texts("layer_types");
  if (!types.empty() && types.size() != static_cast<std::size_t>(layers)) {
    config.fail(fmt::format("layer_types has {} items for {} layers", types.size(), layers));
  }
  std::vector<std::int32_t> windows(static_cast<std::size_t>(layers), 0);
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const bool is_full = types.empty() || types[i] == "full_attention";
    if (!is_full && types[i] != "sliding_attention") {
      config.fail(
          fmt::format("layer_types has \"{}\", but only full_attention and "
                      "sliding_attention can run",
                      offload::printable(types[i])));
    }
    const bool is_windowed = types.empty() ? windowed(static_cast<std::int32_t>(i)) : !is_full;
    if (!is_windowed) continue;
    if (window < 1)
      config.fail("layer_types has sliding_attention, but there is no sliding_window");
    windows[i] = window;
  }
  if (std::ranges::all_of(windows, [](std::int32_t each) { return each == 0; })) return {};
  return windows;
}

std::vector<std::int32_t> read_qwen_windows(const ConfigReader& config, std::int32_t layers) {
  const bool used = config.flag("use_sliding_window", false, IfNull::absent);
  // Absent: 4096; null: none.
  const std::int32_t given =
      config.has("sliding_window") ? config.integer("sliding_window", 0, IfNull::absent) : 4096;
  const std::int32_t window = used ? given : 0;
  const std::int32_t first = config.integer("max_window_layers", 28, IfNull::absent);
  return read_windows(config, layers, window,
                      [&](std::int32_t layer) { return window > 0 && layer >= first; });
}

stage::DecoderConfig read_llama_line(const ConfigReader& config, const LlamaUsual& usual) {
  stage::DecoderConfig model;
  model.layers = config.size("num_hidden_layers", usual.layers);
  model.hidden = model.embedding.width = config.size("hidden_size", usual.hidden);
  model.vocabulary = config.size("vocab_size", usual.vocabulary);
  model.max_positions = config.size("max_position_embeddings", usual.positions);
  model.positions.kind = stage::PositionKind::rotary;
  model.norm.kind = stage::NormKind::rms;
  model.norm.epsilon = static_cast<float>(config.real("rms_norm_eps", usual.epsilon));

  const std::int32_t heads = config.size("num_attention_heads", usual.heads);
  // Absent: the family's; null: as many as query heads.
  const bool own = usual.kv_heads > 0 && !config.has("num_key_value_heads");
  const std::int32_t kv_heads =
      config.size("num_key_value_heads", own ? usual.kv_heads : heads, IfNull::absent);
  std::int32_t width = config.integer("head_dim", usual.head_width, IfNull::absent);
  if (width == 0) width = even_head_width(config, model.hidden, heads, "num_attention_heads");
  model.attention = usual_attention(heads, kv_heads, width, false, false);
  model.mlp = {config.size("intermediate_size", usual.mlp),
               read_activation(config, usual.activation_key, usual.activation), false, true};
  model.head.tied = config.flag("tie_word_embeddings", usual.tied);
  read_ids(config, usual.ids, model);
  return model;
}

RotaryKeys rotary_keys(const stage::DecoderConfig& model) {
  RotaryKeys keys;
  keys.max_positions = model.max_positions;
  return keys;
}

TensorNames llama_names(std::vector<std::string> prefixes) {
  TensorNames names(std::move(prefixes));
  names.add("embedding.tokens", "model.embed_tokens")
      .add("layers.*.attention.norm", "model.layers.*.input_layernorm")
      .add("layers.*.attention.query", "model.layers.*.self_attn.q_proj")
      .add("layers.*.attention.key", "model.layers.*.self_attn.k_proj")
      .add("layers.*.attention.value", "model.layers.*.self_attn.v_proj")
      .add("layers.*.attention.output", "model.layers.*.self_attn.o_proj")
      .add("layers.*.mlp.norm", "model.layers.*.post_attention_layernorm")
      .add("layers.*.mlp.gate", "model.layers.*.mlp.gate_proj")
      .add("layers.*.mlp.up", "model.layers.*.mlp.up_proj")
      .add("layers.*.mlp.down", "model.layers.*.mlp.down_proj")
      .add("head.norm", "model.norm")
      .add("head.tokens", "lm_head");
  return names;
}

TensorNames fused_gate_and_up(TensorNames names, const stage::DecoderConfig& model) {
  const std::int64_t width = model.mlp.width;
  names.add("layers.*.mlp.gate", "model.layers.*.mlp.gate_up_proj", {0, width, 0})
      .add("layers.*.mlp.up", "model.layers.*.mlp.gate_up_proj", {width, width, 0});
  return names;
}

TensorNames with_head_norms(TensorNames names) {
  names.add("layers.*.attention.query_norm", "model.layers.*.self_attn.q_norm");
  names.add("layers.*.attention.key_norm", "model.layers.*.self_attn.k_norm");
  return names;
}

TensorNames with_experts(TensorNames names, const ExpertNames& stored) {
  const std::string block = fmt::format("model.layers.*.{}.", stored.block);
  names.add("layers.*.mlp.router", block + "gate");
  for (const auto& [ours, theirs] :
       {std::pair{"gate", stored.gate}, {"up", stored.up}, {"down", stored.down}}) {
    names.add(fmt::format("layers.*.mlp.experts.#.{}", ours),
              fmt::format("{}experts.#.{}", block, theirs));
  }
  return names;
}

void set_layers_with_experts(const std::function<bool(std::int32_t layer)>& has,
                             stage::DecoderConfig& model) {
  if (model.layers > stage::kMostLayers) return;  // refused by DecoderConfig::validate()
  std::vector<char> layers;
  for (std::int32_t layer = 0; layer < model.layers; ++layer) layers.push_back(has(layer) ? 1 : 0);
  const auto with = std::ranges::count(layers, 1);
  if (with == 0) model.mixture = {};
  if (with > 0 && with < model.layers) model.mixture.layers = std::move(layers);
}

void read_qwen_experts(const ConfigReader& config, const QwenExperts& usual,
                       stage::DecoderConfig& model) {
  stage::MixtureTraits& mixture = model.mixture;
  mixture.experts = config.integer("num_experts", usual.experts);
  mixture.width = config.size("moe_intermediate_size", usual.width);
  mixture.router.chosen = config.size("num_experts_per_tok", usual.chosen);
  mixture.router.normalised = config.flag("norm_topk_prob", false);
  const std::int32_t step = config.size("decoder_sparse_step", 1);
  const std::vector<double> plain = config.reals("mlp_only_layers");
  set_layers_with_experts(
      [&](std::int32_t layer) {
        return mixture.experts > 0 && (layer + 1) % step == 0 &&
               std::ranges::find(plain, layer) == plain.end();
      },
      model);
}

stage::DecoderConfig read_gptj_line(const ConfigReader& config, const GptjUsual& usual) {
  stage::DecoderConfig model;
  model.layers = config.size(config.first_of({"n_layer", "num_hidden_layers"}), usual.layers);
  model.hidden = model.embedding.width =
      config.size(config.first_of({"n_embd", "hidden_size"}), usual.hidden);
  model.vocabulary = config.size("vocab_size", usual.vocabulary);
  model.max_positions =
      config.size(config.first_of({"n_positions", "max_position_embeddings"}), 2048);
  model.norm.epsilon = static_cast<float>(config.real("layer_norm_epsilon", 1e-5));
  model.residual = stage::Residual::parallel_one_norm;

  const char* const heads_key = config.first_of({"n_head", "num_attention_heads"});
  const std::int32_t heads = config.size(heads_key, usual.heads);
  const std::int32_t width = even_head_width(config, model.hidden, heads, heads_key);
  model.attention = usual_attention(heads, heads, width, false, false);
  // Absent: 64; null: the whole head.
  const std::int32_t turned =
      config.has("rotary_dim") ? config.size("rotary_dim", width, IfNull::absent) : 64;
  model.positions.kind = stage::PositionKind::rotary;
  model.positions.rotary = {plain_rotary(turned, 10000.0, true)};
  model.mlp = {config.size("n_inner", four_times(model.hidden), IfNull::absent),
               read_activation(config, "activation_function", "gelu_new"), true};
  model.head.tied = config.flag("tie_word_embeddings", false);
  model.head.bias = true;
  read_ids(config, {50256, 50256, -1}, model);
  return model;
}

TensorNames gptj_names() {
  TensorNames names({"", "transformer."});
  names.add("embedding.tokens", "wte")
      .add("layers.*.attention.norm", "h.*.ln_1")
      .add("layers.*.attention.output", "h.*.attn.out_proj")
      .add("layers.*.mlp.up", "h.*.mlp.fc_in")
      .add("layers.*.mlp.down", "h.*.mlp.fc_out")
      .add("head.norm", "ln_f")
      .add("head.tokens", "lm_head");
  return names;
}

}  // namespace sluice::launcher
