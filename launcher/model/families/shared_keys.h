// What pages of families have in common: keys of config.json that many spell alike, and the Llama
// line, whose families differ in a few keys and defaults.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "launcher/model/config_reader.h"
#include "launcher/model/family.h"
#include "launcher/model/rotary_reader.h"
#include "stage/decoder_config.h"

namespace sluice::launcher {

/// A key that names an activation (transformers' ACT2FN). Throws InputError for one that cannot be
/// computed.
kernels::Activation read_activation(const ConfigReader& config, const char* key, const char* usual);

/// The width of each head where heads share the hidden states. Throws InputError, with the key's
/// name, where they do not divide them.
std::int32_t even_head_width(const ConfigReader& config, std::int32_t hidden, std::int32_t heads,
                             const char* heads_key);

/// Attention whose scores are scaled by the root of a head's width.
stage::AttentionTraits usual_attention(std::int32_t query_heads, std::int32_t kv_heads,
                                       std::int32_t head_width, bool query_key_value_bias,
                                       bool output_bias);

/// What an MLP is wide where nothing else is said; of no possible size it stays below 2^31.
std::int32_t four_times(std::int32_t hidden);

/// bos_token_id, eos_token_id and pad_token_id; what stands for absent ones, or -1 for none.
struct UsualIds {
  std::int32_t bos = -1;
  std::int32_t eos = -1;
  std::int32_t pad = -1;
};
void read_ids(const ConfigReader& config, const UsualIds& usual, stage::DecoderConfig& model);

/// layer_types where it is there, else what `windowed(layer)` says: those layers see `window`
/// tokens. Returns nothing where none does.
std::vector<std::int32_t> read_windows(const ConfigReader& config, std::int32_t layers,
                                       std::int32_t window,
                                       const std::function<bool(std::int32_t layer)>& windowed);

/// Of Qwen2 and Qwen3: use_sliding_window, sliding_window and max_window_layers, or layer_types.
std::vector<std::int32_t> read_qwen_windows(const ConfigReader& config, std::int32_t layers);

/// Values of a family of the Llama line for keys that a config.json lacks.
struct LlamaUsual {
  std::int32_t vocabulary = 32000;
  std::int32_t hidden = 4096;
  std::int32_t mlp = 11008;
  std::int32_t layers = 32;
  std::int32_t heads = 32;
  std::int32_t kv_heads = 0;    // 0: as many as query heads
  std::int32_t head_width = 0;  // 0: hidden / heads
  std::int32_t positions = 2048;
  double epsilon = 1e-6;
  bool tied = false;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  UsualIds ids;
};

/// RMS norms before the blocks, gated MLP, no biases, rotary positions by halves. The family sets
/// what it has differently afterwards, model.positions.rotary at least.
stage::DecoderConfig read_llama_line(const ConfigReader& config, const LlamaUsual& usual);

/// The keys of rotary positions as the Llama line has them.
RotaryKeys rotary_keys(const stage::DecoderConfig& model);

/// model.layers.N.self_attn.{q,k,v,o}_proj and so on, under the prefixes.
TensorNames llama_names(std::vector<std::string> prefixes = {""});

/// ... with gate and up in one matrix, gate_up_proj.
TensorNames fused_gate_and_up(TensorNames names, const stage::DecoderConfig& model);

/// ... with norms of query and key, q_norm and k_norm.
TensorNames with_head_norms(TensorNames names);

/// A layer's router, and experts with a tensor for each of their matrices, under
/// "model.layers.*." + `block`.
struct ExpertNames {
  const char* block = "mlp";
  const char* gate = "gate_proj";
  const char* up = "up_proj";
  const char* down = "down_proj";
};
TensorNames with_experts(TensorNames names, const ExpertNames& stored = {});

/// Only layers of which `has(layer)` is true have the model's experts; where none is, the model has
/// none.
void set_layers_with_experts(const std::function<bool(std::int32_t layer)>& has,
                             stage::DecoderConfig& model);

/// Of Qwen2-MoE and Qwen3-MoE: decoder_sparse_step, mlp_only_layers, num_experts,
/// moe_intermediate_size, num_experts_per_tok and norm_topk_prob.
struct QwenExperts {
  std::int32_t experts;
  std::int32_t width;
  std::int32_t chosen;
};
void read_qwen_experts(const ConfigReader& config, const QwenExperts& usual,
                       stage::DecoderConfig& model);

/// GPT-J and CodeGen: one norm feeds attention and MLP, rotary positions by neighbours.
struct GptjUsual {
  std::int32_t vocabulary;
  std::int32_t hidden;
  std::int32_t layers;
  std::int32_t heads;
};
stage::DecoderConfig read_gptj_line(const ConfigReader& config, const GptjUsual& usual);
/// All but query, key and value.
TensorNames gptj_names();

}  // namespace sluice::launcher
