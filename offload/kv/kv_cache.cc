#include "offload/kv/kv_cache.h"

#include <fmt/format.h>

#include <vector>

#include "kernels/device/error.h"
#include "kernels/device/stall_reason.h"
#include "offload/kv/kv_checks.h"
#include "offload/kv/kv_disk.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_plan.h"
#include "offload/kv/kv_rows.h"
#include "offload/kv/kv_slots.h"
#include "offload/kv/kv_stream.h"
#include "offload/kv/kv_tables.h"

namespace sluice::offload {

namespace {

/// The activations of a step.
struct StepRows {
  TensorView out, query, keys, values;
};

/// A GPU batch: its present pass and the one before, whose work may still be on the lanes.
struct GpuBatch {
  std::vector<KvStep> steps;  // 2
  std::size_t present = 1;
  bool begun = false;
  std::byte* device_tables = nullptr;
};

}  // namespace

class KvCache::Impl {
 public:
  Impl(kernels::Engine& engine, const KvShape& shape, const Policy& policy, Arena& device,
       Arena& host, Arena& control, DiskEngine* disk, const RunFolder* folder, Trace* trace)
      : engine_(engine),
        trace_(trace),
        layout_(shape, policy),
        memory_(take_memory(layout_, device, host, control)),
        appended_(layout_),
        rows_(*engine.backend, layout_, memory_),
        disk_(make_disk(disk, folder)),
        stream_(*engine.backend, layout_, memory_, appended_, disk_.get(), policy.overlap, trace),
        staged_(layout_),
        checks_(layout_),
        slots_(layout_, memory_, *engine.backend, appended_) {
    std::byte* tables = memory_.host_tables;
    gpu_batches_.resize(static_cast<std::size_t>(shape.gpu_batches));
    for (std::size_t b = 0; b < gpu_batches_.size(); ++b) {
      gpu_batches_[b].device_tables =
          memory_.device_tables + b * KvStep::device_table_bytes(layout_);
      for (int i = 0; i < 2; ++i) {
        gpu_batches_[b].steps.emplace_back(layout_, tables);
        tables += KvStep::host_table_bytes(layout_);
      }
    }
  }

  ~Impl() {
    // The arenas may go once this returns: nothing on any lane may still read or write them.
    for (const Lane lane :
         {Lane::compute, Lane::host_to_device, Lane::device_to_host, Lane::host_compute}) {
      try {
        engine_.backend->synchronize(engine_.backend->record(lane));
      } catch (const Error&) {
        // A failed device does no more work, and its users have seen the failure already.
      }
    }
  }

  void begin(std::int32_t gpu_batch, std::span<const KvSequence> sequences, std::int32_t pass);
  void prefetch(std::int32_t layer, std::int32_t gpu_batch);
  void attend(std::int32_t layer, std::int32_t gpu_batch, TensorView out, TensorView query,
              TensorView keys, TensorView values, const kernels::AttentionRule& rule);
  Event store(std::int32_t layer, std::int32_t gpu_batch, TensorView keys, TensorView values);
  KvSlots& slots() { return slots_; }
  const KvLayout& layout() const { return layout_; }

 private:
  std::unique_ptr<KvDisk> make_disk(DiskEngine* disk, const RunFolder* folder);
  void poll();
  KvStep& step_of(std::int32_t layer, std::int32_t gpu_batch);
  kernels::KvPages pages_of(Tier tier, std::int32_t layer) const;
  const std::byte* device_copy(const KvTable& table, const KvStep& step,
                               std::int32_t gpu_batch) const;
  template <typename BatchOf>
  void attend_at(kernels::Ops& ops, const kernels::KvPages& pages, const KvTables& tables,
                 kernels::AttentionRule rule, const StepRows& rows, const BatchOf& batch_of) const;
  void attend_lean(std::int32_t layer, kernels::KvPages pages, const kernels::KvBatch& batch,
                   kernels::AttentionRule rule, const StepRows& rows);
  Event attend_on_host(KvStep& step, std::int32_t layer, KvRowStaging::Set& set, TensorView query,
                       TensorView keys, TensorView values, const kernels::AttentionRule& rule);
  void mark_appended(const std::vector<std::int32_t>& slots, std::int32_t layer, Event event);

  kernels::Engine& engine_;
  Trace* trace_;
  const KvLayout layout_;
  const KvMemory memory_;
  KvAppended appended_;
  KvRowStaging rows_;
  std::unique_ptr<KvDisk> disk_;
  KvStream stream_;
  KvStagedPages staged_;
  KvChecks checks_;
  KvSlots slots_;
  std::vector<GpuBatch> gpu_batches_;
};

std::unique_ptr<KvDisk> KvCache::Impl::make_disk(DiskEngine* disk, const RunFolder* folder) {
  if (layout_.slots_in(Tier::disk) == 0) return nullptr;
  if (disk == nullptr || folder == nullptr) {
    throw_bug("policy.cache keeps sequences on disk, but no disk engine or run folder was given");
  }
  return std::make_unique<KvDisk>(engine_, layout_, memory_, *disk, *folder, trace_);
}

void KvCache::Impl::poll() {
  if (disk_ == nullptr) return;
  stream_.poll();
  disk_->poll();
}

KvStep& KvCache::Impl::step_of(std::int32_t layer, std::int32_t gpu_batch) {
  if (layer < 0 || layer >= layout_.shape.layers || gpu_batch < 0 ||
      gpu_batch >= layout_.shape.gpu_batches ||
      !gpu_batches_[static_cast<std::size_t>(gpu_batch)].begun) {
    throw_bug(
        fmt::format("layer {} of GPU batch {} does not exist or was not begun", layer, gpu_batch));
  }
  GpuBatch& batch = gpu_batches_[static_cast<std::size_t>(gpu_batch)];
  return batch.steps[batch.present];
}

kernels::KvPages KvCache::Impl::pages_of(Tier tier, std::int32_t layer) const {
  std::byte* base = tier == Tier::device ? memory_.device_pages : memory_.host_pages;
  const auto first = static_cast<std::size_t>(layout_.page_index(layer, 0, tier));
  return layout_.pages_at(base + first * layout_.page_bytes, layout_.page_bytes);
}

// The tables a step has on the device: `device`, then `streamed` of every reach, as they lie in
// host memory.
const std::byte* KvCache::Impl::device_copy(const KvTable& table, const KvStep& step,
                                            std::int32_t gpu_batch) const {
  return gpu_batches_[static_cast<std::size_t>(gpu_batch)].device_tables +
         (table.memory() - step.reaches.front().device.dense.memory());
}

/// Appends, then attends; batch_of(table): where the lane of `ops` reads it.
template <typename BatchOf>
void KvCache::Impl::attend_at(kernels::Ops& ops, const kernels::KvPages& pages,
                              const KvTables& tables, kernels::AttentionRule rule,
                              const StepRows& rows, const BatchOf& batch_of) const {
  for (const KvTable* table : {&tables.dense, &tables.sparse}) {
    if (!table->empty()) ops.append_kv(pages, batch_of(*table), rows.keys, rows.values);
  }
  if (!tables.dense.empty()) {
    ops.attention(rows.out, rows.query, pages, batch_of(tables.dense), rule);
  }
  rule.kept_millionths = layout_.kept_millionths;
  if (!tables.sparse.empty()) {
    ops.attention(rows.out, rows.query, pages, batch_of(tables.sparse), rule);
  }
}

/// Of sequences whose keys alone were fetched to `pages`: their values are read at home.
void KvCache::Impl::attend_lean(std::int32_t layer, kernels::KvPages pages,
                                const kernels::KvBatch& batch, kernels::AttentionRule rule,
                                const StepRows& rows) {
  pages.old_values = pages_of(Tier::host, layer).base;
  rule.kept_millionths = layout_.kept_millionths;
  engine_.device_ops->append_kv(pages, batch, rows.keys, rows.values);
  engine_.device_ops->attention(rows.out, rows.query, pages, batch, rule);
}

void KvCache::Impl::begin(std::int32_t gpu_batch, std::span<const KvSequence> sequences,
                          std::int32_t pass) {
  if (gpu_batch < 0 || gpu_batch >= layout_.shape.gpu_batches) {
    throw_bug(
        fmt::format("GPU batch {} was begun; there are {}", gpu_batch, layout_.shape.gpu_batches));
  }
  checks_.sequences(sequences, slots_.lengths());
  poll();
  GpuBatch& batch = gpu_batches_[static_cast<std::size_t>(gpu_batch)];
  batch.present = 1 - batch.present;
  batch.begun = true;
  KvStep& step = batch.steps[batch.present];
  Backend& backend = *engine_.backend;
  if (!backend.done(step.uploaded) || !backend.done(step.host_used)) {
    const ScopedSpan span(trace_, Activity::wait_kv, pass);
    backend.synchronize(step.uploaded);
    backend.synchronize(step.host_used);
  }
  slots_.begin(sequences);
  step.fill(layout_, slots_.pages(), staged_, sequences, pass);
  // Copy on the lane that reads the tables. By then the last pass has read the old ones, and a few
  // kilobytes need not queue behind weights on Lane::host_to_device.
  for (const KvReachStep& reach : step.reaches) {
    for (const KvTable* table : reach.on_device()) {
      if (table->empty()) continue;
      std::byte* target =
          batch.device_tables + (table->memory() - step.reaches.front().device.dense.memory());
      backend.copy(Lane::compute, target, table->memory(), table->used_bytes());
      step.uploaded = backend.record(Lane::compute);
    }
  }
}

void KvCache::Impl::prefetch(std::int32_t layer, std::int32_t gpu_batch) {
  poll();
  stream_.fetch(step_of(layer, gpu_batch), layer);
}

Event KvCache::Impl::attend_on_host(KvStep& step, std::int32_t layer, KvRowStaging::Set& set,
                                    TensorView query, TensorView keys, TensorView values,
                                    const kernels::AttentionRule& rule) {
  rows_.bring(set.query, query, step.host_rows);
  rows_.bring(set.keys, keys, step.host_rows);
  rows_.bring(set.values, values, step.host_rows);
  rows_.hand_over();
  const kernels::KvPages pages = pages_of(Tier::host, layer);
  attend_at(*engine_.host_ops, pages, step.of(layout_, layer).host, rule,
            {set.out, set.query, set.keys, set.values},
            [](const KvTable& table) { return table.batch(); });
  set.free = engine_.backend->record(Lane::host_compute);
  step.host_used = set.free;
  return set.free;
}

void KvCache::Impl::attend(std::int32_t layer, std::int32_t gpu_batch, TensorView out,
                           TensorView query, TensorView keys, TensorView values,
                           const kernels::AttentionRule& rule) {
  KvStep& step = step_of(layer, gpu_batch);
  const KvReachStep& reach = step.of(layout_, layer);
  checks_.rule(layer, rule);
  checks_.rows(step, "out", out, layout_.shape.query_heads);
  checks_.rows(step, "query", query, layout_.shape.query_heads);
  checks_.rows(step, "keys", keys, layout_.shape.kv_heads);
  checks_.rows(step, "values", values, layout_.shape.kv_heads);
  poll();
  Backend& backend = *engine_.backend;
  kernels::Ops& ops = *engine_.device_ops;

  // The CPU starts first: it is the slowest, and the device works beside it.
  KvRowStaging::Set* on_host = nullptr;
  Event host_done;
  if (layout_.host_attends && !reach.host.empty()) {
    on_host = &rows_.next(backend.record(Lane::compute));
    host_done = attend_on_host(step, layer, *on_host, query, keys, values, rule);
  }
  const StepRows rows{out, query, keys, values};
  const auto on_device = [&](const KvTable& table) {
    return table.batch_at(device_copy(table, step, gpu_batch));
  };
  if (!reach.device.empty()) {
    attend_at(ops, pages_of(Tier::device, layer), reach.device, rule, rows, on_device);
  }
  if (reach.streams()) {
    const kernels::KvPages pages = layout_.pages_at(stream_.open(step, layer), layout_.page_bytes);
    attend_at(ops, pages, reach.streamed, rule, rows, on_device);
    if (!reach.lean.empty()) {
      attend_lean(layer, pages,
                  KvTable::with_homes(on_device(reach.lean), on_device(reach.lean_homes)), rule,
                  rows);
    }
    stream_.close(step, layer);
  }
  if (on_host != nullptr) {
    compute_waits(backend, host_done, Activity::stall_host_compute);
    rows_.take_back(out, on_host->out, step.host_rows);
  }
}

void KvCache::Impl::mark_appended(const std::vector<std::int32_t>& slots, std::int32_t layer,
                                  Event event) {
  for (const std::int32_t slot : slots) appended_.at(slot, layer) = event;
}

Event KvCache::Impl::store(std::int32_t layer, std::int32_t gpu_batch, TensorView keys,
                           TensorView values) {
  KvStep& step = step_of(layer, gpu_batch);
  checks_.rows(step, "keys", keys, layout_.shape.kv_heads);
  checks_.rows(step, "values", values, layout_.shape.kv_heads);
  poll();
  Backend& backend = *engine_.backend;
  const KvTables& in_host = step.of(layout_, layer).host;
  const bool host = !in_host.empty() && !layout_.host_attends;
  if (!host && step.disk_slots.empty()) {
    // The CPU's rows left before its attention, which Lane::compute has waited for.
    return {};
  }
  // Wait for the attention, not only for the keys: it reads the pages that are appended to here.
  KvRowStaging::Set& set = rows_.next(backend.record(Lane::compute));
  for (const auto* rows : {host ? &step.host_rows : nullptr, &step.disk_rows}) {
    if (rows == nullptr) continue;
    rows_.bring(set.keys, keys, *rows);
    rows_.bring(set.values, values, *rows);
  }
  const Event left = rows_.hand_over();
  if (host) {
    for (const KvTable* table : {&in_host.dense, &in_host.sparse}) {
      if (table->empty()) continue;
      engine_.host_ops->append_kv(pages_of(Tier::host, layer), table->batch(), set.keys,
                                  set.values);
    }
    mark_appended(step.host_slots, layer, backend.record(Lane::host_compute));
  }
  if (!step.disk_slots.empty()) {
    mark_appended(step.disk_slots, layer, disk_->append(step, layer, set.keys, set.values));
  }
  set.free = backend.record(Lane::host_compute);
  step.host_used = set.free;
  return left;
}

KvCache::KvCache(kernels::Engine& engine, const KvShape& shape, const Policy& policy, Arena& device,
                 Arena& host, Arena& control, DiskEngine* disk, const RunFolder* folder,
                 Trace* trace)
    : impl_(std::make_unique<Impl>(engine, shape, policy, device, host, control, disk, folder,
                                   trace)) {}

KvCache::~KvCache() = default;

void KvCache::begin(std::int32_t gpu_batch, std::span<const KvSequence> sequences,
                    std::int32_t pass) {
  impl_->begin(gpu_batch, sequences, pass);
}

void KvCache::prefetch(std::int32_t layer, std::int32_t gpu_batch) {
  impl_->prefetch(layer, gpu_batch);
}

void KvCache::attend(std::int32_t layer, std::int32_t gpu_batch, TensorView out, TensorView query,
                     TensorView keys, TensorView values, const kernels::AttentionRule& rule) {
  impl_->attend(layer, gpu_batch, out, query, keys, values, rule);
}

Event KvCache::store(std::int32_t layer, std::int32_t gpu_batch, TensorView keys,
                     TensorView values) {
  return impl_->store(layer, gpu_batch, keys, values);
}

Tier KvCache::tier_of(std::int32_t slot) const {
  return impl_->layout().tiers.at(static_cast<std::size_t>(slot));
}

void KvCache::forget(std::span<const std::int32_t> slots) { impl_->slots().forget(slots); }

bool KvCache::shares_prefixes() const { return impl_->layout().shares_prefixes(); }

void KvCache::keep(std::int32_t slot, std::int32_t first, std::span<const std::int32_t> prefixes) {
  impl_->slots().keep(slot, first, prefixes);
}

void KvCache::drop(std::span<const std::int32_t> prefixes) { impl_->slots().drop(prefixes); }

PerTier<std::int32_t> KvCache::pool_pages() const { return impl_->layout().farthest().pool; }

std::int32_t KvCache::pages_per_slot() const { return impl_->layout().farthest().pages_per_slot; }

KvUsage KvCache::usage() const { return impl_->slots().usage(); }

std::uint64_t KvCache::disk_bytes() const { return impl_->layout().file_bytes(); }

}  // namespace sluice::offload
