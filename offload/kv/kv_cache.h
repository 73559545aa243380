// Keys and values of every sequence of a stage, in three tiers, and the attention over them.
//
// Every sequence slot has a home tier (cache_tiers()), and every tier has a pool of pages. A
// sequence takes pages as it grows, and gives them back when it ends. So a short sequence does not
// keep the memory of a long one, nor an unfinished one that of its end.
//
// Sequences that begin with the same tokens may have the pages of these in common: keep() gives the
// beginning of a sequence a number, by which others start behind it. It stays until drop(), however
// the sequences end. Of a GPU batch each such page is fetched once. Where a sequence leaves another
// inside a page it has one of its own, into which the common tokens are copied.
//
// Layers whose queries see a window of keys have page tables and pools of their own. A sequence
// takes at most as many pages there as a window and the new tokens of a pass lie in, and uses them
// in turn: a page whose tokens no query will see again holds later ones. Such layers fetch and read
// only pages in sight.
//
// Device sequences are attended where they lie. Host sequences are attended by the CPU beside them
// (cpu_cache_compute: only query, new keys and values and the result cross the link), or streamed
// page by page through device staging. Disk sequences keep full pages in one file and their last,
// partial page in host memory; they are streamed through host and device staging. A page is written
// once, when it is full, so the bytes written grow with the new tokens, not with the history.
//
// The result is the same, bit for bit, wherever a sequence lives (kernels/ops.h, law).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device/tensor_view.h"
#include "kernels/device/trace.h"
#include "kernels/ops.h"
#include "offload/disk/disk_engine.h"
#include "offload/memory_plan.h"
#include "offload/policy.h"

namespace sluice::offload {

inline constexpr const char* kPrefixes = "prefixes";

struct KvShape {
  std::int32_t layers = 0;           // of this stage
  std::int32_t slots = 0;            // sequences: micro-batches x GPU batches x GPU-batch size
  std::int32_t tokens_per_slot = 0;  // longest sequence of the job
  /// Pools that are not sized otherwise hold so many tokens for every slot; 0: tokens_per_slot.
  std::int32_t usual_tokens_per_slot = 0;
  std::int32_t gpu_batches = 1;           // per micro-batch: GPU batches that are open at a time
  std::int32_t gpu_batch_size = 1;        // sequences per GPU batch
  std::int32_t tokens_per_gpu_batch = 1;  // most new tokens of a GPU batch in one pass
  std::int32_t query_heads = 0;           // a multiple of kv_heads
  std::int32_t kv_heads = 0;              // what a page stores
  std::int32_t head_dim = 0;              // of query and KV heads alike
  /// A sequence wastes half of its last page on average: 3.8 % of 200 tokens.
  std::int32_t page_tokens = 16;
  /// Pages of a layer in each tier's pool, of the layers that see farthest; those that see less
  /// have as many as the same sequences can keep there. 0: enough for tokens_per_slot in all slots
  /// of the tier at a time. At least one such sequence must fit (kv_pools.h).
  PerTier<std::int32_t> pool_pages = {};
  DType compute_dtype = DType::f32;  // of query, keys, values, out
  /// Host memory that the caller keeps for each page of all pools, of a layer, where prefixes are
  /// shared. Planned as kPrefixes, and no part of the arenas.
  std::uint64_t prefix_bytes_per_page = 0;
  /// By layer: keys that a query sees at most (kernels::AttentionRule::window); 0: all. Empty: all
  /// in all layers.
  std::vector<std::int32_t> windows;
};

/// A sequence of a GPU batch in a pass; see kernels::KvBatch. context counts the new tokens.
/// context == new_tokens starts a new sequence in the slot (what the slot held is forgotten).
struct KvSequence {
  std::int32_t slot = 0;
  std::int32_t first_row = 0;
  std::int32_t new_tokens = 0;
  std::int32_t context = 0;
  /// Most tokens it may grow to, for its pages to be neighbours; 0: tokens_per_slot.
  std::int32_t total = 0;
  /// Its first so many tokens, those of its prompt, attend to all values; later ones as the policy
  /// says (Policy::attn_sparsity), in whatever pass they are computed.
  std::int32_t dense = 0;
  /// Of a sequence that starts: the prefix (KvCache::keep()) that its history is; -1: it has none.
  /// It lies in the home tier of the slot.
  std::int32_t prefix = -1;
  /// Where its history ends inside a page: the prefix whose last page begins with the same tokens,
  /// or the slot whose page of the same place does, in a pass before. They are copied; -1: none is.
  /// Both lie in the home tier of the slot. On disk it must be a slot's last page, not yet full.
  std::int32_t copied_from = -1;
  std::int32_t copied_of_slot = -1;

  bool copies() const { return copied_from >= 0 || copied_of_slot >= 0; }
};

/// Of the sequences so far, in a layer that sees farthest.
struct KvUsage {
  std::uint64_t tokens_stored = 0;  // at their ends, or now; no more than their pages hold
  std::uint64_t tokens_taken = 0;   // what their pages hold
};

class KvCache {
 public:
  /// Reserves "KV cache" in each tier, "KV staging" in device and host, kControl and kPrefixes in
  /// host.
  static void plan(const KvShape& shape, const Policy& policy, MemoryPlan& plan);

  /// Takes exactly what plan() reserved, of kControl from `control`. `disk` and `folder` may be
  /// null when policy.cache.disk is 0; else a file of the planned size is made in `folder`. All
  /// references must outlive it.
  KvCache(kernels::Engine& engine, const KvShape& shape, const Policy& policy, Arena& device,
          Arena& host, Arena& control, DiskEngine* disk, const RunFolder* folder, Trace* trace);
  ~KvCache();

  /// The sequences of GPU batch `gpu_batch` in the coming pass. Called once per pass and GPU batch,
  /// before its first prefetch() or attend(), and after the last store() of the pass before.
  /// Waits for nothing but the previous-but-one pass. Throws Error for sequences that cannot be.
  /// Sequences take pages for their new tokens in the order given. Admission must ensure that the
  /// pool of the slot's tier has enough.
  void begin(std::int32_t gpu_batch, std::span<const KvSequence> sequences, std::int32_t pass);

  /// Forgets the sequences of these slots and frees their pages. Not to be called between the
  /// begin() of a pass and its last store().
  void forget(std::span<const std::int32_t> slots);

  /// Whether keep() may be called: not where some layers see a window only.
  bool shares_prefixes() const;
  /// Full pages of a sequence, from page `first` on, each become the end of a prefix: of numbers
  /// that no other has, below pages of all tiers. To be called after begin(); sequences of later
  /// passes may begin with them. Throws Error for what cannot be.
  void keep(std::int32_t slot, std::int32_t first, std::span<const std::int32_t> prefixes);
  /// Forgets prefixes. Sequences that began with them keep their pages. Not to be called between
  /// the begin() of a pass and its last store().
  void drop(std::span<const std::int32_t> prefixes);

  /// Starts to fetch the streamed sequences of (layer, gpu_batch). Calls come in the order of the
  /// attend() calls, at most one ahead; attend() fetches by itself what was not prefetched.
  void prefetch(std::int32_t layer, std::int32_t gpu_batch);

  /// Appends keys and values and attends. out, query: device [tokens, query_heads x head_dim] of
  /// the GPU batch; keys, values: device [tokens, kv_heads x head_dim]. Puts its work on the lanes;
  /// blocks only for disk reads and for a staging slot (time goes to Activity::wait_kv).
  /// Lane::compute is ordered after all of `out`. `rule` sees no farther than KvShape::windows.
  void attend(std::int32_t layer, std::int32_t gpu_batch, TensorView out, TensorView query,
              TensorView keys, TensorView values, const kernels::AttentionRule& rule);

  /// Stores the new keys and values of host and disk sequences; after attend() of the same step.
  /// Lane::compute must wait for the event before it overwrites keys, values or query; the event is
  /// a default one where nothing was stored. Throws IoError or CapacityError for a page that could
  /// not be written; such failures may also come from the calls above.
  Event store(std::int32_t layer, std::int32_t gpu_batch, TensorView keys, TensorView values);

  Tier tier_of(std::int32_t slot) const;
  KvUsage usage() const;
  /// Of a layer, in each tier's pool; of the layers that see farthest. The others never run out
  /// before them.
  PerTier<std::int32_t> pool_pages() const;
  /// Most pages of these that a sequence keeps, however long it is.
  std::int32_t pages_per_slot() const;
  /// Bytes of the cache file.
  std::uint64_t disk_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::offload
