// The schedule as data: what a stage does in one pass, in the order it is issued. A pure function
// of shapes: the executor runs it, task_work.h prices it, schedule_edges.h says what each task
// comes after, tests check its laws with no device.
//
// It is FlexGen's block schedule, written once: for each layer, its weights are held while every
// GPU batch of the micro-batch goes through it, and the next step's cache is fetched beside the
// present step's computing. (FlexGen paper, algorithm 1; flex_opt.py,
// generation_loop_overlap_multi_batch.)
#pragma once

#include <cstdint>
#include <vector>

#include "offload/tier.h"
#include "offload/weights/weight_ring.h"

namespace sluice::stage {

/// A task keeps one resource busy. The executor calls weight stream, cache, activations and model
/// for the tasks marked *; the others are done by those calls, or by the weight stream alone.
enum class TaskKind : std::uint8_t {
  await,             // the issuing thread stands still until what this comes after is done
  upload_tables,     // page tables of a GPU batch, to the device
  upload_indices,    // token ids, positions, wanted rows, to the device
  read_weights,      // a group's disk rows, to host memory
  load_weights,      // its host and disk rows, to the ring
  lease,             // * its weights are held from here
  release,           // * ... to here
  receive,           // hidden states of a GPU batch come from the stage before
  take_hidden,       // * ... and to where they are computed
  embed,             // * they are made from token ids
  read_hidden,       // their rows on disk, to host memory
  fetch_hidden,      // * back to the device
  read_cache,        // pages of the history on disk, to host memory
  fetch_cache,       // * pages of the history, to the device
  attention,         // * norm, query, keys and values
  lend_rows,         // those of sequences that the host attends, to host memory
  attend_on_host,    // the attention of these
  attend,            // the attention of all others
  attention_output,  // the rest of the attention block
  store_cache,       // * new keys and values, to host memory
  append_cache,      // ... into their pages there
  write_cache,       // pages that are full, to disk
  mlp,               // * the MLP block
  store_hidden,      // * hidden states, to their homes until the next layer
  write_hidden,      // their rows on disk
  logits,            // * the output head over a chunk of wanted rows, and sampling by the device
  take_results,      // logits, or sampled tokens, to host memory
  sample,            // sampling by the host; the answer to the head
  stage_hidden,      // hidden states, to host memory for sending
  send,              // * hidden states, to the next stage
};
const char* name_of(TaskKind kind);

enum class Resource : std::uint8_t {
  none,
  disk,
  host_to_device,
  device_to_host,
  compute,
  host_compute,
  send,
  receive,
  outbox,  // the thread that samples and answers
};
constexpr int kResourceCount = 9;
const char* name_of(Resource resource);

/// A task before another: of this pass, or of one before.
struct Edge {
  std::int32_t passes_ago = 0;
  std::int32_t task = -1;  // index in its pass; -1: none

  bool operator==(const Edge&) const = default;
};
/// One from each queue that can be waited for is enough: the later task of a queue stands for all.
constexpr int kMaxEdges = 8;

struct Task {
  TaskKind kind = TaskKind::await;
  Resource resource = Resource::none;
  std::int32_t group = -1;      // of weights, in the order of leases; of lease .. release
  std::int32_t layer = -1;      // decoder layer, counted from this stage's first
  std::int32_t gpu_batch = -1;  // index in ScheduleShape::gpu_batches; -1: all of them
  /// Chunk of logits. Of attend: 0 device pages, 1 staged pages. Of append_cache: 0 pages in host
  /// memory, 1 pages of disk sequences that are full now, 2 their partial pages.
  std::int32_t part = 0;
  /// Of an await: the kind of task that may then be issued, or whose buffer is then free.
  TaskKind way_for = TaskKind::await;
  Edge after[kMaxEdges];  // filled in by ScheduleEdges
};

/// Sequences of a GPU batch that live in one tier, added up.
struct CachedRows {
  std::int32_t sequences = 0;
  std::int64_t tokens = 0;         // new ones
  std::int64_t context = 0;        // tokens that the sequences will have, in sight
  double pairs = 0;                // of a new token and a token it sees
  std::int64_t values = 0;         // tokens of the context whose values are read, at most
  double value_pairs = 0;          // of a new token and a token whose value it takes
  std::int32_t dense = 0;          // sequences with new tokens that attend to all values
  std::int32_t sparse = 0;         // ... to few (Policy::attn_sparsity)
  std::int32_t lean = 0;           // ... of which keys alone are fetched
  std::int64_t lean_pages = 0;     // of their history, in sight
  std::int64_t lean_values = 0;    // of it, values that are read over the link
  std::int64_t history_pages = 0;  // in sight, with tokens of earlier passes
  std::int64_t full_pages = 0;     // ... of which these are full
  std::int64_t filled_pages = 0;   // by this pass
  std::int32_t partial = 0;        // sequences whose last page is not full after this pass
};

/// A GPU batch that has rows in this pass.
struct GpuBatchShape {
  std::int32_t index = 0;  // in the micro-batch
  std::int64_t tokens = 0;
  std::int64_t logits = 0;                     // rows that are wanted
  std::int64_t features = 0;                   // ... of which the last ones without logits
  bool joins = false;                          // a row starts behind what other rows have stored
  offload::PerTier<std::int64_t> hidden = {};  // rows at home in each tier between layers
  offload::PerTier<CachedRows> cached;         // for layers that see all
  offload::PerTier<CachedRows> cached_window;  // for those with a window: what it bounds is less

  const CachedRows& in(offload::Tier tier) const { return cached[static_cast<std::size_t>(tier)]; }
  const CachedRows& in_window(offload::Tier tier) const {
    return cached_window[static_cast<std::size_t>(tier)];
  }
};

/// What is streamed of a weight group.
struct GroupShape {
  bool streamed = false;  // some rows pass through the ring
  bool on_disk = false;   // ... of which some come from disk
};

/// Everything that fixes the tasks of a pass. All but the last two are alike for all passes.
struct ScheduleShape {
  bool first = true;        // owns the embedding (else: receives)
  bool last = true;         // owns the head (else: sends)
  std::int32_t layers = 0;  // decoder layers
  bool by_device = false;   // hidden states go from device to device (StageLayout::device_channel)
  bool overlaps = true;     // Policy::overlap
  bool mlp_once = false;    // Policy::mlp_once: attention and MLP are groups of their own
  bool host_attends = false;         // Policy::cpu_cache_compute
  bool moves_hidden = false;         // hidden states go home between layers, to host or disk
  bool hidden_on_disk = false;       // ... some of them to disk: a thread of its own moves them
  bool cache_on_disk = false;        // some sequences live on disk
  std::int32_t window = 0;           // of the layers that have one (offload::KvReach); 0: none has
  std::int32_t kept_millionths = 0;  // Policy::kept_millionths()
  bool fetches_keys_only = false;    // offload::KvLayout
  std::int64_t logit_rows = 1;       // of a chunk
  std::vector<GroupShape> groups;    // in the order of leases
  offload::WeightRing ring;          // of the streamed ones
  std::int32_t micro_batch = 0;
  std::vector<GpuBatchShape> gpu_batches;  // that have rows in this pass, by index

  bool streams(const GpuBatchShape& batch) const {
    return batch.in(offload::Tier::disk).sequences > 0 ||
           (!host_attends && batch.in(offload::Tier::host).sequences > 0);
  }
  /// Pages of the history that are fetched for each layer that sees all. Layers with a window fetch
  /// fewer, but some in the same passes.
  std::int64_t fetched_pages(const GpuBatchShape& batch) const {
    return batch.in(offload::Tier::disk).history_pages +
           (host_attends ? 0 : batch.in(offload::Tier::host).history_pages);
  }
  bool lends(const GpuBatchShape& batch) const {
    return host_attends && batch.in(offload::Tier::host).sequences > 0;
  }
  std::int64_t chunks(const GpuBatchShape& batch) const {
    return (batch.logits + logit_rows - 1) / logit_rows;
  }
};

/// Pre: the task is of one GPU batch.
inline const GpuBatchShape& batch_of(const Task& task, const ScheduleShape& shape) {
  return shape.gpu_batches[static_cast<std::size_t>(task.gpu_batch)];
}

/// Groups of the weight stream: embedding first (if first), one or two for each decoder layer, head
/// last (if last).
constexpr std::int32_t group_count(const ScheduleShape& shape) {
  return shape.layers * (shape.mlp_once ? 2 : 1) + (shape.first ? 1 : 0) + (shape.last ? 1 : 0);
}

/// Overwrites `tasks`, keeping its capacity; their edges are left empty.
void build_schedule(const ScheduleShape& shape, std::vector<Task>& tasks);
/// Most tasks of any pass with these GPU batches, to reserve memory for.
std::size_t most_tasks(const ScheduleShape& shape, std::int32_t gpu_batches, std::int64_t logits);

}  // namespace sluice::stage
