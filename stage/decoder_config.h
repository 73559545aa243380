// A decoder as data: independent traits, each with one place in the forward (decoder.h). A model
// family (launcher/model/families) fills it in from a config.json; no family is known here.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device/dtype.h"
#include "kernels/ops.h"

namespace sluice::stage {

/// A block f with its norm and residual: x + f(norm(x)), or norm(x + f(x)).
enum class NormPlace { before, after };

/// Layer norm of both blocks and of the head: (x - mean) / sqrt(variance + epsilon), and where
/// `affine` times a weight plus a bias.
struct NormTraits {
  NormPlace place = NormPlace::before;
  float epsilon = 1e-5F;
  bool affine = true;
};

/// Token ids to hidden states.
struct EmbeddingTraits {
  std::int32_t width = 0;  // of the token table; another than `hidden`: projected to hidden
};

/// A learned table, whose row for a position is added to the embedding.
struct PositionTraits {
  std::int32_t offset = 0;  // rows of the table that stand before position 0's
};

struct AttentionTraits {
  std::int32_t query_heads = 0;
  std::int32_t kv_heads = 0;  // query heads share one in consecutive groups of equal size
  std::int32_t head_width = 0;
  bool query_key_value_bias = true;
  bool output_bias = true;
  float scale = 0;  // of query times key

  std::int32_t query_width() const { return query_heads * head_width; }
  std::int32_t kv_width() const { return kv_heads * head_width; }
};

/// down(activation(up(x))).
struct MlpTraits {
  std::int32_t width = 0;
  kernels::Activation activation = kernels::Activation::relu;
  bool bias = true;  // of both
};

/// Hidden states to logits.
struct HeadTraits {
  bool norm = true;  // the final norm
  bool tied = true;  // its matrix is the embedding's token table
};

struct DecoderConfig {
  std::int32_t layers = 0;
  std::int32_t hidden = 0;
  std::int32_t vocabulary = 0;
  std::int32_t max_positions = 0;
  EmbeddingTraits embedding;
  PositionTraits positions;
  NormTraits norm;
  AttentionTraits attention;
  MlpTraits mlp;
  HeadTraits head;
  DType dtype = DType::f16;  // of dummy weights
  std::int32_t bos = 0;
  std::int32_t eos = 0;
  std::int32_t pad = 0;

  bool projected() const { return embedding.width != hidden; }

  /// Throws InputError, with `where` (a path) in front, for values that cannot be: a size below 1,
  /// KV heads that do not divide the query heads, an id beyond the vocabulary, more bytes than can
  /// be counted.
  void validate(const std::string& where) const;
};

}  // namespace sluice::stage
