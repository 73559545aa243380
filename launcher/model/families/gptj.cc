// GPT-J: attention and MLP in parallel behind one norm, rotary positions by neighbours, a head of
// its own with a bias.
// Source of keys, defaults and names: transformers' configuration_gptj.py and modeling_gptj.py.
#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

stage::DecoderConfig read_config(const ConfigReader& config) {
  return read_gptj_line(config, {50400, 4096, 28, 16});
}

TensorNames name_tensors(const stage::DecoderConfig& /*model*/) {
  return gptj_names()
      .add("layers.*.attention.query", "h.*.attn.q_proj")
      .add("layers.*.attention.key", "h.*.attn.k_proj")
      .add("layers.*.attention.value", "h.*.attn.v_proj");
}

}  // namespace

const Family& gptj_family() {
  static const Family family{"gptj", "GPT-J", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
