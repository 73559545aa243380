// A decoder as data: independent traits, each with one place in the forward (decoder.h). A model
// family (launcher/model/families) fills it in from a config.json; no family is known here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"
#include "kernels/ops.h"

namespace sluice::stage {

enum class NormKind {
  layer,  // (x - mean) / sqrt(variance + epsilon)
  rms     // x / sqrt(mean of squares + epsilon)
};

/// A block f with its norms and residual: x + f(norm(x)), norm(x + f(x)), or
/// x + second norm(f(norm(x))).
enum class NormPlace { before, after, around };

/// Of both blocks and of the head.
struct NormTraits {
  NormPlace place = NormPlace::before;
  float epsilon = 1e-5F;
  bool affine = true;  // times a weight, and for layer norm plus a bias
  NormKind kind = NormKind::layer;
  bool bias = true;            // of layer norm
  float weight_offset = 0;     // added to the weights of RMS norm
  bool in_first_layer = true;  // false: attention of layer 0 reads the hidden states as they are
};

/// How the two blocks of a layer meet. The parallel forms norm before: x + attention(norm(x)) +
/// mlp(norm(x)), with a norm for each, or one for both (which is attention's).
enum class Residual { sequential, parallel, parallel_one_norm };

/// Token ids to hidden states: a row of the table, times `scale`, normed, and made `hidden` wide.
struct EmbeddingTraits {
  std::int32_t width = 0;  // of the token table; another than `hidden`: projected to hidden
  float scale = 1.0F;
  bool norm = false;         // at the table's width
  bool zero_filled = false;  // a narrower table is filled up with zeros, not projected
};

/// Rotary positions (kernels::Rotation) of some layers.
struct RotaryTraits {
  std::int32_t width = 0;   // elements of a head that turn
  bool neighbours = false;  // pairs (2i, 2i + 1), else (i, i + width / 2)
  float factor = 1.0F;
  std::vector<float> frequencies;  // [width / 2]
  /// Of sequences that may grow longer than `long_after` tokens (PassRow::total); empty: no other.
  std::vector<float> long_frequencies;
  std::int32_t long_after = 0;
};

enum class PositionKind {
  learned,  // a row of a table is added to the embedding
  rotary,   // queries and keys are turned
  alibi     // scores fall with the distance
};

struct PositionTraits {
  std::int32_t offset = 0;  // learned: rows of the table that stand before position 0's
  PositionKind kind = PositionKind::learned;
  /// Rotary: the kinds of layers, and which of them a layer is (-1: it has no positions). Without a
  /// list all layers are of the first kind.
  std::vector<RotaryTraits> rotary;
  std::vector<std::int32_t> rotary_of_layer;
  float alibi = 1.0F;  // kernels::AttentionRule::alibi

  /// Null: the layer turns nothing.
  const RotaryTraits* rotary_of(std::int32_t layer) const;
  /// Whether a sequence of so many tokens at most is turned by the long frequencies, in all layers.
  bool turns_long(std::int32_t total) const;
  /// Of the longest sequence that does not; the largest number where none does.
  std::int32_t long_after() const;
};

struct AttentionTraits {
  std::int32_t query_heads = 0;
  std::int32_t kv_heads = 0;  // query heads share one in consecutive groups of equal size
  std::int32_t head_width = 0;
  bool query_key_value_bias = true;
  bool output_bias = true;
  float scale = 0;              // of query times key
  bool query_key_norm = false;  // RMS norm of each head of query and key, before they turn
  bool whole_norm = false;      // ... of all heads of a row together
  float clip = 0;               // query, key and value become at most that far from 0; 0: any
  float soft_cap = 0;           // of scores; 0: none
  bool scale_by_layer = false;  // scores are also divided by the layer's number + 1
  /// Keys that a query sees, itself included, in each layer; 0: all. Empty: all in all layers.
  std::vector<std::int32_t> windows = {};

  std::int32_t query_width() const { return query_heads * head_width; }
  std::int32_t kv_width() const { return kv_heads * head_width; }
  std::int32_t window_of(std::int32_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
  }
};

/// down(activation(up(x))), or gated: down(activation(gate(x)) * up(x)).
struct MlpTraits {
  std::int32_t width = 0;
  kernels::Activation activation = kernels::Activation::relu;
  bool bias = true;  // of all
  bool gated = false;
};

/// Experts in the place of the MLP: a router sends each row to some of them, and their results are
/// added up by its weights. Each is a gated MLP; biases and activation are MlpTraits'.
struct MixtureTraits {
  std::int32_t experts = 0;  // of a layer; 0: the model has none
  std::int32_t width = 0;    // of each
  kernels::RouterRule router;
  bool router_bias = false;
  bool correction = false;  // kernels::Ops::route()
  /// An MLP that all rows go through; 0: none.
  std::int32_t shared_width = 0;
  /// Its result is multiplied with the sigmoid of one more product of the row.
  bool shared_switch = false;
  /// Which layers have experts; empty: all. The others have an MLP of MlpTraits::width.
  std::vector<char> layers = {};
};

/// Hidden states to logits: the final norm, where the embedding is projected a way back to its
/// width, then the product with the token table or a matrix of its own.
struct HeadTraits {
  bool norm = true;    // the final norm
  bool tied = true;    // its matrix is the embedding's token table
  bool bias = false;   // of the last product
  float soft_cap = 0;  // of logits; 0: none
  float scale = 1.0F;  // of logits
  /// The way back has a bias, a gelu and a layer norm of its own; else it is a bare product.
  bool dense_projection = false;
};

/// Of all layers together.
constexpr std::int64_t kMostExpertsOfModel = std::int64_t{1} << 17U;
/// More than any model has, and few enough to keep lists of.
constexpr std::int32_t kMostLayers = 65536;

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
  MixtureTraits mixture;
  HeadTraits head;
  Residual residual = Residual::sequential;
  float residual_scale = 1.0F;  // of what both blocks add
  DType dtype = DType::f16;     // of dummy weights
  std::int32_t bos = 0;         // -1: none
  std::int32_t eos = 0;
  std::int32_t pad = 0;  // -1: none

  /// The token table is narrower or wider than the hidden states.
  bool projected() const { return embedding.width != hidden; }
  /// ... and a matrix leads from it to them.
  bool projects_embedding() const { return projected() && !embedding.zero_filled; }
  /// Of what the head's last product gets.
  std::int32_t feature_width() const { return projected() ? embedding.width : hidden; }
  bool norms_attention_of(std::int32_t layer) const { return layer > 0 || norm.in_first_layer; }
  bool has_experts(std::int32_t layer) const {
    return mixture.experts > 0 &&
           (mixture.layers.empty() || mixture.layers[static_cast<std::size_t>(layer)] != 0);
  }
  /// Of the widest MLP, expert or not, of any layer.
  std::int32_t widest_mlp() const;
  /// What both blocks give needs memory of its own before it is added to the hidden states.
  bool sets_aside() const {
    return residual != Residual::sequential || norm.place == NormPlace::around ||
           residual_scale != 1.0F;
  }
  kernels::AttentionRule attention_rule(std::int32_t layer) const;

  /// Throws InputError, with `where` (a path) in front, for values that cannot be: a size below 1,
  /// KV heads that do not divide the query heads, an id beyond the vocabulary, lists that do not
  /// fit the layers, more bytes than can be counted.
  void validate(const std::string& where) const;
};

}  // namespace sluice::stage
