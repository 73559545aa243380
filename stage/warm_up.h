// The model's forward, run once before the clock runs and before ranks wait for each other on their
// devices: a GPU's library looks for its kernels, and loads them, when it first meets a shape,
// which may wait for all that the GPU is doing.
#pragma once

#include "kernels/ops.h"
#include "offload/activations/activation_store.h"
#include "offload/weights/weight_stream.h"
#include "stage/stage_memory.h"
#include "stage/workspace.h"

namespace sluice::stage {

/// Runs embedding, one decoder layer without its attention (of models in which some layers have
/// experts, also the MLP of the other kind), and output head, as far as the stage
/// has them, on as many rows as a GPU batch has at most and as it has in decoding. The weights are
/// what lies in their places: streamed ones may be garbage, and nobody looks at the result. No pass
/// may have begun. Returns when the device is done.
void warm_up(const StageLayout& layout, kernels::Engine& engine,
             const offload::WeightStream& weights, offload::ActivationStore& activations,
             Workspace& workspace);

}  // namespace sluice::stage
