// CodeGen: GPT-J with query, value and key in one matrix of four blocks, one for each of the
// accelerators that it was trained on.
// Source of keys, defaults and names: transformers' configuration_codegen.py, modeling_codegen.py.
#include <fmt/format.h>

#include "launcher/model/families/pages.h"
#include "launcher/model/families/shared_keys.h"

namespace sluice::launcher {

namespace {

constexpr std::int32_t kBlocks = 4;

stage::DecoderConfig read_config(const ConfigReader& config) {
  stage::DecoderConfig model = read_gptj_line(config, {50400, 4096, 28, 16});
  if (model.attention.query_heads % kBlocks != 0) {
    config.fail(
        fmt::format("{} heads are no multiple of {}", model.attention.query_heads, kBlocks));
  }
  return model;
}

TensorNames name_tensors(const stage::DecoderConfig& model) {
  const std::int64_t part = model.attention.query_width() / kBlocks;
  return gptj_names()
      .add("layers.*.attention.query", "h.*.attn.qkv_proj", {0, part, 3 * part})
      .add("layers.*.attention.value", "h.*.attn.qkv_proj", {part, part, 3 * part})
      .add("layers.*.attention.key", "h.*.attn.qkv_proj", {2 * part, part, 3 * part});
}

}  // namespace

const Family& codegen_family() {
  static const Family family{"codegen", "CodeGen", &read_config, &name_tensors};
  return family;
}

}  // namespace sluice::launcher
