// A decoder's forward on one GPU batch: embedding, then per layer an attention block and an MLP
// block, then the output head. It reads like the papers; each trait of DecoderConfig acts in one
// place. Where bytes live, when they move and which rows share the batch is not known here.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "offload/kv/kv_cache.h"
#include "stage/adapters.h"
#include "stage/decoder_config.h"
#include "stage/mixture.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

/// Device memory one GPU batch needs while it is computed, all of the compute dtype and
/// [tokens_per_gpu_batch, width]; a step uses the first rows. With Policy::mlp_once `normed` and
/// `mlp` have rows for all GPU batches. Two sets of query, keys and values
/// are used in turn, so that a step may overwrite one while the other is still being copied home.
struct LayerWorkspace {
  TensorView normed;     // [tokens, hidden]
  TensorView attended;   // [tokens, query width]; shares its memory with `normed`
  TensorView query[2];   // [tokens, query width]
  TensorView keys[2];    // [tokens, KV width]
  TensorView values[2];  // [tokens, KV width]
  TensorView mlp;        // [tokens, MLP width]
  /// [tokens, hidden], of parallel residuals: what the MLP reads; with norms around the blocks or a
  /// scaled residual: a block's result before that. Else empty.
  TensorView aside;
  // Of runs with adapters:
  void* adapted = nullptr;     // [tokens, rank] of any of their products
  TensorView adapted_mlp;      // [tokens, MLP width]: sums before an activation; what up has more
  TensorView token_embedding;  // [tokens, embedding width] of an embedding of another width
  /// Of the kinds of layers (PositionTraits::rotary), each f32 [width / 2], or twice that where
  /// there are long ones.
  std::vector<const float*> frequencies;
  MixtureWorkspace mixture;  // of models with experts
};

/// ... and the head: for the rows whose logits are wanted, at most `rows` at a time.
struct HeadWorkspace {
  TensorView selected;   // [rows, hidden]
  TensorView projected;  // [rows, embedding width] where the model projects, else empty
  TensorView logits;     // [rows, vocabulary] f32
};

/// Which layer and GPU batch attention is for, and where its keys and values go.
struct KvPlace {
  offload::KvCache* cache;  // null: nothing is attended to (warm_up.h)
  std::int32_t model_layer;
  std::int32_t layer;  // counts this stage's decoder layers
  std::int32_t gpu_batch;
  int set;  // of LayerWorkspace's query, keys and values
};

/// hidden[i, :] = embedding of token ids[i] at position positions[i] (device i32).
void embed(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
           const LayerWorkspace& workspace, const std::int32_t* ids, const std::int32_t* positions,
           TensorView hidden);

/// The two blocks of a decoder layer with the rows' adapters, each in place on hidden [tokens,
/// hidden]. With a parallel residual attention leaves what the MLP reads in workspace.aside, so
/// that the MLP of the same GPU batch must be the next to come. mlp_block() of a layer with experts
/// waits until the device has chosen them (mixture.h).
void attention_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                     const LayerWorkspace& workspace, const KvPlace& place,
                     const LayerAdapters& adapters, const std::int32_t* positions,
                     TensorView hidden);
void mlp_block(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
               const LayerWorkspace& workspace, const LayerAdapters& adapters, TensorView hidden);

/// What comes out of the head, in its workspace.
struct HeadRows {
  TensorView features;  // [count, DecoderConfig::feature_width()]: what the last product gets
  TensorView logits;    // [wanted, vocabulary] f32
};

/// Takes `count` rows of hidden, chosen by `rows` (device i32), to the last product, and the first
/// `wanted` of them through it.
HeadRows output_head(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                     const HeadWorkspace& workspace, TensorView hidden, const std::int32_t* rows,
                     std::int32_t count, std::int32_t wanted);

}  // namespace sluice::stage
