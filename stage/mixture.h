// A layer's experts on the rows of a GPU batch, or of a whole micro-batch (Policy::mlp_once). The
// router's choice is made on the device. The host learns how many rows each expert has, and no
// more: then every expert that has any is computed once, on its rows alone.
//
// What the experts give a row is added up in their order, in f32, so a row's bits do not depend on
// the rows beside it.
#pragma once

#include <cstdint>

#include "kernels/device/backend.h"
#include "kernels/ops.h"
#include "stage/decoder_config.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

/// Memory of it, for as many rows as the MLP has at most; on the device unless it says otherwise.
struct MixtureWorkspace {
  /// Of the memory and of the lane. The stage's; it sets it.
  Backend* backend = nullptr;
  TensorView logits;    // f32 [tokens, experts]
  TensorView gathered;  // [tokens, hidden]: rows of one expert
  TensorView result;    // [tokens, hidden]: what it makes of them
  TensorView sum;       // f32 [tokens, hidden]
  TensorView switches;  // f32 [tokens, 1], of MixtureTraits::shared_switch; else empty
  kernels::RoutedRows routed;
  std::int32_t* host_counts = nullptr;  // host [experts]
};

/// What the router's experts, and the shared one, give for `in` [tokens, hidden], without residual:
/// f32 [tokens, hidden] in the workspace. `mlp`: memory of [tokens, the widest MLP]. Waits on the
/// calling thread until the lane has routed the rows. Source: Hugging Face
/// MixtralSparseMoeBlock.forward, Qwen2MoeSparseMoeBlock.forward.
TensorView mix_experts(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                       const MixtureWorkspace& workspace, TensorView mlp, TensorView in);

}  // namespace sluice::stage
