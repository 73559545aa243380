// OPT, as operations on one GPU batch: embedding, decoder layer, output head. Reads like the paper;
// where bytes live, when they move and which rows share the batch is not known here.
// Source: Hugging Face modeling_opt.py, OPTDecoder, OPTDecoderLayer, OPTAttention.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "offload/kv/kv_cache.h"
#include "offload/weights/weight_stream.h"
#include "stage/model_config.h"

namespace sluice::stage {

/// Device memory one GPU batch needs while it is computed, all of the compute dtype and
/// [tokens_per_gpu_batch, width]; a step uses the first rows. Two sets of query, keys and values
/// are used in turn, so that a step may overwrite one while the other is still being copied home.
struct LayerWorkspace {
  TensorView normed;           // [tokens, hidden]; also holds what attention gives
  TensorView query[2];         // [tokens, hidden]
  TensorView keys[2];          // [tokens, hidden]
  TensorView values[2];        // [tokens, hidden]
  TensorView ffn;              // [tokens, ffn]
  TensorView token_embedding;  // [tokens, embedding_width] where the model projects, else empty
};

/// ... and the head: for the rows whose logits are wanted, at most `rows` at a time.
struct HeadWorkspace {
  TensorView selected;   // [rows, hidden]
  TensorView projected;  // [rows, embedding_width] where the model projects, else empty
  TensorView logits;     // [rows, vocabulary] f32
};

/// hidden[i, :] = embedding of ids[i] at position positions[i] (already with OPT's offset of 2).
void embed(kernels::Ops& ops, const ModelConfig& model, const offload::WeightStream::Lease& weights,
           const LayerWorkspace& workspace, const std::int32_t* ids, const std::int32_t* positions,
           TensorView hidden);

/// One decoder layer in place on hidden [tokens, hidden]. `cache_layer` counts this stage's decoder
/// layers; `set` chooses the query, keys and values used.
void decoder_layer(kernels::Ops& ops, const ModelConfig& model,
                   const offload::WeightStream::Lease& weights, const LayerWorkspace& workspace,
                   int set, offload::KvCache& cache, std::int32_t cache_layer,
                   std::int32_t gpu_batch, TensorView hidden);

/// Logits of `count` rows of hidden, chosen by `rows` (device i32); returns the used part of
/// workspace.logits.
TensorView output_head(kernels::Ops& ops, const ModelConfig& model,
                       const offload::WeightStream::Lease& weights, const HeadWorkspace& workspace,
                       TensorView hidden, const std::int32_t* rows, std::int32_t count);

/// The products of the first `tokens` rows of a workspace, each once, of whatever is in it and in
/// the weights. A GPU's library looks for its kernels, and loads them, when it is first asked for a
/// shape, which may wait for all that the GPU is doing; results are nobody's.
void try_embedding(kernels::Ops& ops, const ModelConfig& model,
                   const offload::WeightStream::Lease& weights, const LayerWorkspace& workspace,
                   std::int64_t tokens);
void try_decoder_layer(kernels::Ops& ops, const ModelConfig& model,
                       const offload::WeightStream::Lease& weights, const LayerWorkspace& workspace,
                       std::int64_t tokens);
void try_output_head(kernels::Ops& ops, const ModelConfig& model,
                     const offload::WeightStream::Lease& weights, const HeadWorkspace& workspace,
                     std::int64_t rows);

}  // namespace sluice::stage
