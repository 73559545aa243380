// Mistral: Llama's layout, with a sliding window in early models.
// Source of keys, defaults and names: transformers' configuration_mistral.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  LlamaUsual usual;
  usual.mlp = 14336;
  usual.kv_heads = 8;
  usual.positions = 131072;
  usual.ids = {1, 2, -1};
  stage::DecoderConfig model = read_llama_line(config, usual);
  // Absent: 4096; null: none.
  const std::int32_t window =
      config.has("sliding_window") ? config.integer("sliding_window", 0, IfNull::absent) : 4096;
  model.attention.windows =
      read_windows(config, model.layers, window, [&](std::int32_t) { return window > 0; });
  model.positions.rotary = {read_rotary(config, model.attention.head_width, rotary_keys(model))};
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) { return llama_names(); }

}  // namespace

const Family& mistral_family() {
  static const Family family{"mistral", "Mistral", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
