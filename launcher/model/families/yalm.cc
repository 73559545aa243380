// YaLM-100B as Yandex published it: a folder of numbered files, and no config.json, so that the
// keys of ours are those of its own scripts. An embedding narrower than the hidden states, filled
// up with zeros; no norm in front of the first layer's attention; a head with a layer of its own.
// Source: megatron_lm/megatron/model (transformer.py, language_model.py) and checkpointing.py of
// the published repository.
#include <fmt/format.h>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

/// Files 00 and 01 are the embedding, 02 is none; the head follows the layers after a gap.
constexpr std::int32_t kFirstLayerFile = 3;

void require(const ConfigReader& config, const char* key, const char* wanted) {
  const std::string value = config.text(key, wanted, IfNull::absent);
  if (value == wanted) return;
  config.fail(
      fmt::format("{} is \"{}\", but only {} can run", key, offload::printable(value), wanted));
}

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model;
  model.layers = config.size("num_layers", 80);
  model.hidden = config.size("hidden_size", 10240);
  model.vocabulary = config.size("padded_vocab_size", 128000);
  model.max_positions = config.size("max_position_embeddings", 1024);
  model.embedding.width = config.size("embedding_size", 2048);
  model.embedding.norm = true;
  model.embedding.zero_filled = true;
  if (model.embedding.width >= model.hidden) {
    config.fail(fmt::format("embedding_size {} is not below hidden_size {}", model.embedding.width,
                            model.hidden));
  }
  model.norm.epsilon = static_cast<float>(config.real("layernorm_epsilon", 1e-5));
  model.norm.in_first_layer = false;
  require(config, "activation_type", "geglu");
  require(config, "pos_encoding_type", "rotary");

  if (!config.has("num_attention_heads")) {
    config.fail("there is no num_attention_heads (128 in YaLM-100B)");
  }
  const std::int32_t heads = config.size("num_attention_heads", 128);
  const std::int32_t width = even_head_width(config, model.hidden, heads, "num_attention_heads");
  model.attention = usual_attention(heads, heads, width, true, true);
  model.positions.kind = stage::PositionKind::rotary;
  model.positions.rotary = {plain_rotary(width, 10000.0, false)};
  model.mlp = {config.size("intermediate_size", 27308), kernels::Activation::gelu, true, true};
  model.head.bias = true;
  model.head.dense_projection = true;
  read_ids(config, {1, 2, -1}, model);
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  TensorNames names({""});
  const auto file = [](std::int32_t number) { return fmt::format("layer_{:02}.", number); };
  names.add("embedding.tokens", file(0) + "word_embeddings")
      .add("embedding.norm", file(1) + "input_layernorm");
  const std::int64_t width = model.attention.head_width;
  for (std::int32_t layer = 0; layer < model.layers; ++layer) {
    const std::string ours = fmt::format("layers.{}.", layer);
    const std::string theirs = file(layer + kFirstLayerFile);
    const std::string fused = theirs + "attention.query_key_value";
    names.add(ours + "attention.norm", theirs + "input_layernorm")
        .add(ours + "attention.query", fused, {0, width, 3 * width})
        .add(ours + "attention.key", fused, {width, width, 3 * width})
        .add(ours + "attention.value", fused, {2 * width, width, 3 * width})
        .add(ours + "attention.output", theirs + "attention.dense")
        .add(ours + "mlp.norm", theirs + "post_attention_layernorm")
        .add(ours + "mlp.gate", theirs + "mlp.dense_ffn_hidden")
        .add(ours + "mlp.up", theirs + "mlp.dense_ffn_gate")
        .add(ours + "mlp.down", theirs + "mlp.dense_ffn_output");
  }
  const std::string head = file(model.layers + kFirstLayerFile + 1);
  return names.add("head.norm", head + "input_layer_norm")
      .add("head.project", head + "dense")
      .add("head.project_norm", head + "output_layer_norm")
      .add_exactly("head.tokens.bias", head + "output_bias");
}

}  // namespace

const Family& yalm_family() {
  static const Family family{"yalm", "YaLM", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
