// The stage's own memory: what computing needs beside weights, cache and activations. Made once,
// from the arenas; a pass only takes views of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grammar/token_trie.h"
#include "offload/memory_plan.h"
#include "stage/decoder.h"
#include "stage/stage_memory.h"

namespace sluice::stage {

/// Token ids, positions and logit rows of one GPU batch of one pass, on the host and on the device.
struct IndexBuffers {
  std::int32_t* host_ids = nullptr;         // [tokens]
  std::int32_t* host_positions = nullptr;   // [tokens]
  std::int32_t* host_logit_rows = nullptr;  // [tokens]
  std::int32_t* device_ids = nullptr;
  std::int32_t* device_positions = nullptr;
  std::int32_t* device_logit_rows = nullptr;
};

/// Where the device samples: what it is asked of a chunk of logit rows, and its answers. Two sets
/// on the host, for chunks in turn.
struct SampleBuffers {
  kernels::SampleRow* host_rows[2] = {};      // [logit_rows]
  kernels::TokenEdit* host_edits[2] = {};     // [logit_edits]
  std::uint32_t* host_masks[2] = {};          // [logit_mask_words]
  kernels::SampledRow* host_results[2] = {};  // [logit_rows]
  kernels::SampleRow* device_rows = nullptr;
  kernels::TokenEdit* device_edits = nullptr;
  std::uint32_t* device_masks = nullptr;
  kernels::SampledRow* device_results = nullptr;
};

struct Workspace {
  LayerWorkspace layer;
  /// The stage's; it sets it. Null: the run has none.
  const AdapterWeights* adapters = nullptr;
  HeadWorkspace head;                 // last stage
  std::vector<IndexBuffers> indices;  // [buffers]
  std::vector<TensorView> received;   // [buffers] [tokens, hidden], not on the first stage; on the
                                      // device with StageLayout::device_channel, else on the host
  std::vector<TensorView> outgoing;   // [buffers] host [tokens, hidden], not on the last stage, nor
                                      // with StageLayout::device_channel
  // Last stage, with Batching::features: rows wanted without logits, on their way home, and by
  // slot the sums of those of a prompt.
  TensorView host_features[2];     // host [logit_rows, features], of the compute dtype
  double* feature_sums = nullptr;  // host [slots, features]

  // Last stage: one of these.
  TensorView host_logits[2];  // host [logit_rows, vocabulary]
  SampleBuffers sampling;     // with StageLayout::device_samples

  /// Of all kinds of layers, one after the other; layer.frequencies points into the second, which
  /// upload_frequencies() fills from the first.
  float* host_frequencies = nullptr;
  float* device_frequencies = nullptr;

  // Histories:
  std::int32_t* histories = nullptr;  // host [slots, max_sequence_tokens]
  std::int32_t* rules = nullptr;      // host [slots, max_rule_words]

  /// Last stage, with Batching::grammars: the vocabulary. The stage's; it sets it.
  const grammar::TokenTrie* tokens = nullptr;

  Workspace() = default;
  /// Takes exactly workspace_bytes(layout) from the arenas. What a pass uploads, and the samples
  /// that come home, lie in `control` (offload::kControl).
  Workspace(const StageLayout& layout, offload::Arena& device, offload::Arena& host,
            offload::Arena& control);
};

/// Once, before any work: puts the frequencies of rotary positions where rotations read them, on
/// Lane::compute.
void upload_frequencies(Backend& backend, const PositionTraits& positions,
                        const Workspace& workspace);

}  // namespace sluice::stage
