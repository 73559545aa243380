// What an OPT model is, as Hugging Face's config.json says it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"
#include "kernels/ops.h"
#include "offload/weights/placement.h"
#include "offload/weights/weight_compression.h"

namespace sluice::stage {

struct ModelConfig {
  std::int32_t layers = 0;           // num_hidden_layers
  std::int32_t hidden = 0;           // hidden_size
  std::int32_t heads = 0;            // num_attention_heads
  std::int32_t ffn = 0;              // ffn_dim
  std::int32_t vocabulary = 0;       // vocab_size
  std::int32_t positions = 0;        // max_position_embeddings (the table has 2 more rows)
  std::int32_t embedding_width = 0;  // word_embed_proj_dim; != hidden: project_in/out exist
  bool norm_before = true;           // do_layer_norm_before; false: OPT-350m
  bool final_norm = true;            // norm_before and not _remove_final_layer_norm
  bool bias = true;                  // enable_bias
  bool norm_affine = true;           // layer_norm_elementwise_affine
  bool tied_embeddings = true;       // tie_word_embeddings: lm_head.weight is embed_tokens.weight
  kernels::Activation activation = kernels::Activation::relu;
  DType dtype = DType::f16;  // torch_dtype: of dummy weights
  std::int32_t bos = 2;
  std::int32_t eos = 2;
  std::int32_t pad = 1;

  std::int32_t head_dim() const { return hidden / heads; }
  bool projected() const { return embedding_width != hidden; }

  /// Throws InputError naming the first value that cannot be (zero, negative, heads not dividing
  /// hidden, sizes whose product overflows), with `where` (a path) in front.
  void validate(const std::string& where) const;
};

/// Positions of tensors within the LayerSpec of a decoder layer (absent ones have rows == 0).
enum LayerTensor : std::size_t {
  kNorm1Weight,
  kNorm1Bias,
  kQueryBias,
  kKeyBias,
  kValueBias,
  kOutBias,
  kNorm2Weight,
  kNorm2Bias,
  kFc1Bias,
  kFc2Bias,
  kQueryWeight,
  kKeyWeight,
  kValueWeight,
  kOutWeight,
  kFc1Weight,
  kFc2Weight,
  kLayerTensorCount
};
/// ... of the embedding: token table, position table, project_in (may be absent).
enum EmbeddingTensor : std::size_t { kProjectIn, kPositions, kEmbedTokens, kEmbeddingTensorCount };
/// ... of the output head: final norm (may be absent), project_out (may be absent), token table.
enum HeadTensor : std::size_t {
  kFinalNormWeight,
  kFinalNormBias,
  kProjectOut,
  kHeadTokens,
  kHeadTensorCount
};

/// Which of the model's weights `kind` quantises: those that linear() multiplies with, and the
/// token table. Positions are added as they are.
offload::WeightCompression compression_of(offload::Compression kind);

/// All tensors of the model, as the checkpoint must have them; absent tensors have an empty name.
offload::LayerSpec embedding_spec(const ModelConfig& model);
offload::LayerSpec layer_spec(const ModelConfig& model, std::int32_t layer);
/// `separate_head`: the checkpoint has an lm_head.weight that is to be read as such.
offload::LayerSpec head_spec(const ModelConfig& model, bool separate_head);

}  // namespace sluice::stage
