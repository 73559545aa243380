#include "stage/executor.h"

#include "kernels/device/stall_reason.h"

namespace sluice::stage {

Executor::Executor(const StageParts& parts)
    : parts_(parts),
      backend_(*parts.engine.backend),
      ops_(*parts.engine.device_ops),
      indices_(parts.layout, parts.workspace, backend_),
      shape_(schedule_shape(parts.layout, parts.placement)),
      tier_of_([&cache = parts.cache](std::int32_t slot) { return cache.tier_of(slot); }) {
  const StageLayout& layout = parts.layout;
  if (layout.last()) {
    logits_.emplace(layout, parts.workspace, parts.engine, parts.world, parts.trace);
  } else {
    sends_.emplace(layout, parts.workspace, backend_, parts.world, parts.trace);
  }
  const auto batches = static_cast<std::size_t>(layout.batching.num_gpu_batches);
  tasks_.reserve(most_tasks(shape_, layout.batching.num_gpu_batches, layout.tokens()));
  open_.resize(batches);
  sequences_.resize(batches);
  for (auto& list : sequences_) {
    list.reserve(static_cast<std::size_t>(layout.batching.gpu_batch_size));
  }
  adapted_.resize(batches);
  if (!layout.adapters) return;
  for (auto& list : adapted_) {
    list.reserve(static_cast<std::size_t>(layout.batching.gpu_batch_size));
  }
  all_adapted_.reserve(batches * static_cast<std::size_t>(layout.batching.gpu_batch_size));
}

Executor::~Executor() = default;

void Executor::run(const Pass& pass, PassInbox& inbox) {
  begin(pass);
  for (const Task& task : tasks_) {
    run_task(task, pass, inbox);
    inbox.poll();
  }
  end(pass);
}

void Executor::plan(const Pass& pass) {
  set_pass(shape_, parts_.layout, pass, tier_of_);
  build_schedule(shape_, tasks_);
}

void Executor::begin(const Pass& pass) {
  if (shape_.mlp_once) parts_.activations.lay_out(pass.batch_tokens);
  begin_cache(pass);
  if (parts_.workspace.adapters != nullptr) begin_adapters(pass);
  indices_.fill(pass);
  if (logits_) logits_->begin(pass, indices_);
  for (const GpuBatchShape& batch : shape_.gpu_batches) {
    indices_.upload(pass, batch.index, static_cast<std::int32_t>(batch.logits));
  }
}

void Executor::begin_cache(const Pass& pass) {
  parts_.cache.forget(pass.freed);
  parts_.cache.drop(pass.dropped);
  for (auto& list : sequences_) list.clear();
  for (const PassRow& row : pass.rows) {
    sequences_[static_cast<std::size_t>(row.gpu_batch)].push_back(
        {row.slot, row.first_token, row.new_tokens, row.position + row.new_tokens, row.total,
         row.sampling.answer_begin, row.prefix, row.copied_from, row.copied_of_slot});
  }
  for (const GpuBatchShape& batch : shape_.gpu_batches) {
    parts_.cache.begin(batch.index, sequences_[static_cast<std::size_t>(batch.index)],
                       static_cast<std::int32_t>(pass.number));
  }
  std::span<const std::int32_t> kept = pass.kept;
  for (const PassRow& row : pass.rows) {
    if (row.kept == 0) continue;
    const auto pages = static_cast<std::size_t>(row.kept);
    parts_.cache.keep(row.slot, row.kept_from, kept.first(pages));
    kept = kept.subspan(pages);
  }
}

void Executor::begin_adapters(const Pass& pass) {
  for (auto& list : adapted_) list.clear();
  for (const PassRow& row : pass.rows) {
    if (row.adapter < 0) continue;
    auto& list = adapted_[static_cast<std::size_t>(row.gpu_batch)];
    const bool goes_on = !list.empty() && list.back().adapter == row.adapter &&
                         list.back().first + list.back().count == row.first_token;
    if (goes_on) {
      list.back().count += row.new_tokens;
    } else {
      list.push_back({row.first_token, row.new_tokens, row.adapter});
    }
  }
  // Of the whole micro-batch, whose GPU batches lie one behind the other.
  all_adapted_.clear();
  std::int64_t first = 0;
  for (std::size_t g = 0; g < adapted_.size(); ++g) {
    for (const AdapterRows& rows : adapted_[g]) {
      all_adapted_.push_back({first + rows.first, rows.count, rows.adapter});
    }
    first += pass.batch_tokens[g];
  }
}

LayerAdapters Executor::adapters_of(const Task& task) const {
  const auto& rows =
      task.gpu_batch < 0 ? all_adapted_ : adapted_[static_cast<std::size_t>(index_of(task))];
  return {parts_.workspace.adapters, task.layer, rows};
}

void Executor::end(const Pass& pass) {
  if (logits_) logits_->end(pass);
}

void Executor::drain() {
  if (logits_) logits_->drain();
  if (sends_) sends_->drain();
  if (parts_.channel != nullptr && !shape_.last) {
    const ScopedSpan waiting(&parts_.trace, Activity::send);
    backend_.synchronize(backend_.record(Lane::send));
  }
  finish_lanes();
}

void Executor::finish_lanes() {
  for (const Lane lane :
       {Lane::compute, Lane::host_to_device, Lane::device_to_host, Lane::host_compute}) {
    backend_.synchronize(backend_.record(lane));
  }
}

std::exception_ptr Executor::failure() const {
  return logits_ ? logits_->failure() : sends_->failure();
}

/// Tasks that are not here are done by the call of one before them, or by the weight stream.
void Executor::run_task(const Task& task, const Pass& pass, PassInbox& inbox) {
  switch (task.kind) {
    case TaskKind::await:  // the others stand still where what they wait for is wanted
      return task.way_for == TaskKind::await ? finish_lanes() : void();
    case TaskKind::lease:
      return run_lease(task, pass);
    case TaskKind::release:
      return parts_.weights.release(lease_);
    case TaskKind::take_hidden:
      return take_hidden(task, pass, inbox);
    case TaskKind::embed:
      return run_embed(task, pass);
    case TaskKind::fetch_hidden:
      return parts_.activations.prefetch(index_of(task), batch_of(task, shape_).tokens);
    case TaskKind::fetch_cache:
      return parts_.cache.prefetch(task.layer, index_of(task));
    case TaskKind::attention:
      return run_attention(task, pass);
    case TaskKind::store_cache:
      return store_cache(task);
    case TaskKind::mlp:
      return run_mlp(task, pass);
    case TaskKind::store_hidden:
      return close(index_of(task), true);
    case TaskKind::send:
      return run_send(task, pass);
    case TaskKind::logits:
      return run_logits(task, pass);
    default:
      return;
  }
}

TensorView Executor::open(const Task& task, bool fresh) {
  OpenBatch& batch = opened(index_of(task));
  if (!batch.open) {
    batch.hidden = parts_.activations.open(index_of(task), batch_of(task, shape_).tokens, fresh);
  }
  batch.open = true;
  return batch.hidden;
}

void Executor::close(std::int32_t gpu_batch, bool keep, Event read_by) {
  parts_.activations.close(gpu_batch, keep, read_by);
  opened(gpu_batch).open = false;
}

void Executor::run_lease(const Task& task, const Pass& pass) {
  const StageConfig& config = parts_.layout.config;
  parts_.world.step("layer", pass.number, config.first_layer + task.layer);
  lease_ = parts_.weights.acquire(task.group, static_cast<std::int32_t>(pass.number));
}

void Executor::take_hidden(const Task& task, const Pass& pass, PassInbox& inbox) {
  const TensorView source = inbox.hidden(pass, index_of(task));
  const TensorView hidden = open(task, true);
  backend_.copy(Lane::compute, hidden.data, source.data, source.bytes());
  inbox.consumed(pass, index_of(task), backend_.record(Lane::compute));
}

void Executor::run_embed(const Task& task, const Pass& pass) {
  const IndexBuffers& indices = indices_.of(pass, index_of(task));
  const TensorView hidden = open(task, true);
  embed(ops_, parts_.layout.model, GroupWeights(lease_), parts_.workspace.layer, indices.device_ids,
        indices.device_positions, hidden);
  if (!shape_.moves_hidden) close(index_of(task), true);
}

void Executor::run_attention(const Task& task, const Pass& pass) {
  const TensorView hidden = open(task, false);
  set_ ^= 1;
  compute_waits(backend_, vectors_free_[set_], Activity::stall_results);
  vectors_free_[set_] = {};
  attention_block(ops_, parts_.layout.model, attention_of(lease_), parts_.workspace.layer,
                  {&parts_.cache, parts_.layout.config.first_layer + task.layer, task.layer,
                   index_of(task), set_},
                  adapters_of(task), indices_.of(pass, index_of(task)).device_positions, hidden);
}

void Executor::store_cache(const Task& task) {
  const std::int64_t rows = opened(index_of(task)).hidden.rows;
  const LayerWorkspace& layer = parts_.workspace.layer;
  vectors_free_[set_] =
      parts_.cache.store(task.layer, index_of(task), layer.keys[set_].slice(0, rows),
                         layer.values[set_].slice(0, rows));
}

void Executor::run_mlp(const Task& task, const Pass& pass) {
  if (task.gpu_batch < 0) {
    mlp_block(ops_, parts_.layout.model, GroupWeights(lease_), parts_.workspace.layer,
              adapters_of(task), parts_.activations.all());
    for (const GpuBatchShape& batch : shape_.gpu_batches) leave_layer(task, pass, batch);
    return;
  }
  const TensorView hidden = opened(index_of(task)).hidden;
  mlp_block(ops_, parts_.layout.model, mlp_of(lease_), parts_.workspace.layer, adapters_of(task),
            hidden);
  leave_layer(task, pass, batch_of(task, shape_));
}

/// Hidden states that neither go home nor to the next stage stay where they are, or end here: after
/// the last layer only rows whose logits are wanted are needed any more.
void Executor::leave_layer(const Task& task, const Pass& pass, const GpuBatchShape& batch) {
  const bool is_last_layer = task.layer + 1 == shape_.layers;
  const bool ends = is_last_layer && batch.logits == 0;
  if (ends) indices_.was_read(pass, batch.index);
  if (is_last_layer && !shape_.last) return;  // its send closes it
  if (ends || !shape_.moves_hidden) close(batch.index, !ends);
}

void Executor::run_send(const Task& task, const Pass& pass) {
  const TensorView hidden = opened(index_of(task)).hidden;
  const Event gone = parts_.channel != nullptr ? send_to_device(hidden)
                                               : sends_->send(pass, index_of(task), hidden);
  close(index_of(task), false, gone);
}

Event Executor::send_to_device(TensorView hidden) {
  backend_.wait(Lane::send, backend_.record(Lane::compute));
  parts_.channel->send(hidden.data, hidden.bytes());
  parts_.trace.add_bytes(Activity::send, hidden.bytes());
  // Sends straight from the activations. The next content of that buffer waits until the next stage
  // has received the present one.
  return backend_.record(Lane::send);
}

void Executor::run_logits(const Task& task, const Pass& pass) {
  const std::int32_t gpu_batch = index_of(task);
  const TensorView hidden = open(task, false);
  logits_->run(pass, gpu_batch, task.part, lease_, hidden, indices_.of(pass, gpu_batch));
  if (task.part + 1 < shape_.chunks(batch_of(task, shape_))) return;
  close(gpu_batch, false);
  indices_.was_read(pass, gpu_batch);
}

}  // namespace sluice::stage
