// The families that llama.cpp writes into GGUF files and that run here: the traits are those of the
// pages of the same models in Hugging Face's form, the tensors have names of their own.
// Source: gguf-py/gguf/constants.py and src/llama-arch.cpp of github.com/ggml-org/llama.cpp.
#include "launcher/model/families/pages.h"

namespace sluice::launcher {

namespace {

TensorNames name_tensors(const stage::DecoderConfig& model) {
  TensorNames names({""});
  names.add("embedding.tokens", "token_embd")
      .add("layers.*.attention.norm", "blk.*.attn_norm")
      .add("layers.*.attention.query", "blk.*.attn_q")
      .add("layers.*.attention.key", "blk.*.attn_k")
      .add("layers.*.attention.value", "blk.*.attn_v")
      .add("layers.*.attention.output", "blk.*.attn_output")
      .add("layers.*.mlp.norm", "blk.*.ffn_norm")
      .add("layers.*.mlp.gate", "blk.*.ffn_gate")
      .add("layers.*.mlp.up", "blk.*.ffn_up")
      .add("layers.*.mlp.down", "blk.*.ffn_down")
      .add("head.norm", "output_norm")
      .add("head.tokens", "output");
  if (model.attention.query_key_norm) {
    names.add("layers.*.attention.query_norm", "blk.*.attn_q_norm")
        .add("layers.*.attention.key_norm", "blk.*.attn_k_norm");
  }
  return names;
}

}  // namespace

const Families& gguf_families() {
  static const Family llama{"llama", "Llama", llama_family().read_config, &name_tensors};
  static const Family qwen2{"qwen2", "Qwen2", qwen2_family().read_config, &name_tensors};
  static const Family qwen3{"qwen3", "Qwen3", qwen3_family().read_config, &name_tensors};
  static const Families all = {&llama, &qwen2, &qwen3};
  return all;
}

}  // namespace sluice::launcher
