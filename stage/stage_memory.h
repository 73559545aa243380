// What a stage needs of each tier, on paper: computed before anything is loaded, from shapes alone,
// and the shapes its parts are then made with.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "offload/activations/activation_store.h"
#include "offload/kv/kv_cache.h"
#include "offload/memory_plan.h"
#include "offload/weights/placement.h"
#include "offload/weights/weight_stream.h"
#include "stage/adapters.h"
#include "stage/decoder_config.h"
#include "stage/pass_buffers.h"
#include "stage/stage_config.h"
#include "stage/topology.h"

namespace sluice::stage {

/// Everything that fixes the shapes of one stage of a run.
struct StageLayout {
  DecoderConfig model;
  StageConfig config;
  Batching batching;
  std::int32_t stage = 0;
  std::int32_t stages = 1;
  DType compute_dtype = DType::f32;
  /// Hidden states come and go by a comm::DeviceChannel, and are received on the device; else the
  /// host sends and receives them.
  bool device_channel = false;
  /// Device memory that the engine took for itself (BackendInfo::workspace_bytes): planned as
  /// "kernels", and no part of the device's arena.
  std::uint64_t engine_bytes = 0;
  /// On rank 0 a model that guesses (draft_model.h) takes so much of each tier beside this stage,
  /// planned as "draft model".
  offload::PerTier<std::uint64_t> draft_bytes = {};
  bool device_samples = false;  // BackendInfo::samples: logits never leave the device
  /// Of the run; null: none. Batching::adapters is their number.
  std::shared_ptr<const AdapterSpecs> adapters = nullptr;
  /// Pages of each tier's pool in the KV cache (KvShape::pool_pages); fit_cache() sets them.
  offload::PerTier<std::int32_t> cache_pages = {};

  Topology topology() const { return {stages}; }
  DType cache_dtype() const { return config.policy.cache_dtype_for(compute_dtype); }
  bool first() const { return stage == 0; }
  bool last() const { return stage + 1 == stages; }
  /// GPU batches that may be under way in a stage: buffers of two passes are used in turn.
  std::int32_t buffers() const { return PassBuffers(batching.num_gpu_batches).count(); }
  /// Rows of logits computed at a time.
  std::int64_t logit_rows() const;
  /// Most edits (TokenEdits) of so many.
  std::int64_t logit_edits() const;
  /// Words of their masks, where rows may have grammars.
  std::int64_t logit_mask_words() const;
  /// Rows under way that may have a grammar.
  std::int32_t grammar_slots() const { return batching.grammars ? batching.slots(stages) : 0; }
  /// Greatest rank of an adapter's product; 0: there are none.
  std::int32_t adapter_rank() const;
  std::int64_t tokens() const { return batching.max_tokens_per_gpu_batch; }
  /// ... that an MLP gets at most.
  std::int64_t mlp_tokens() const {
    return config.policy.mlp_once ? tokens() * batching.num_gpu_batches : tokens();
  }
};

/// The weight stream's layers: embedding (first stage), decoder layers, head (last stage).
std::vector<offload::GroupSpec> layer_specs(const StageLayout& layout);
offload::KvShape kv_shape(const StageLayout& layout);
/// Below which the prefixes of the stage's cache are numbered; 0: none are shared.
std::int32_t prefix_pages(const StageLayout& layout);
offload::ActivationShape activation_shape(const StageLayout& layout);

/// The stage's own buffers (offload's parts reserve theirs themselves).
struct WorkspaceBytes {
  std::uint64_t device = 0;
  std::uint64_t host = 0;
  std::uint64_t control = 0;    // host, offload::kControl
  std::uint64_t histories = 0;  // host: what sampling with a penalty looks back at
};
WorkspaceBytes workspace_bytes(const StageLayout& layout);

/// Sizes the pools of the KV cache: for the job's longest sequence in every slot, where the budgets
/// allow it; else for what they leave beside everything else, but at least for one such sequence in
/// each tier that has a share. What is too much even then is for plan_memory().check() to say.
void fit_cache(StageLayout& layout, const std::vector<offload::GroupPlacement>& layers);

/// The whole paper of a stage. `layers` as place_weights() gave them.
offload::MemoryPlan plan_memory(const StageLayout& layout,
                                const std::vector<offload::GroupPlacement>& layers);

/// Host memory that the disk engine takes for the checksums of what the plan puts on disk: planned
/// as "checksums", and no part of the host's arena.
std::uint64_t checksum_bytes(const offload::MemoryPlan& plan);

/// Host memory of the grammars of rows under way, on the last stage: their automata and masks, and
/// about what the vocabulary takes as a tree. Planned as "grammars", and no part of the host's
/// arena.
std::uint64_t grammar_memory(const StageLayout& layout);

/// Host memory of the passes under way: headers, results and their messages, and on the first stage
/// the requests that they are made from. Planned as "passes"; every part of a stage has its own, on
/// the heap, so it is no part of the host's arena.
std::uint64_t pass_memory(const StageLayout& layout);

}  // namespace sluice::stage
