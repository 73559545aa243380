#include "stage/executor.h"

namespace sluice::stage {

Executor::Executor(const StageParts& parts)
    : parts_(parts),
      backend_(*parts.engine.backend),
      ops_(*parts.engine.device_ops),
      overlaps_(parts.layout.config.policy.overlap),
      indices_(parts.layout, parts.workspace, backend_) {
  const StageLayout& layout = parts.layout;
  if (layout.last()) {
    logits_.emplace(layout, parts.workspace, parts.engine, parts.world, parts.trace);
  } else {
    sends_.emplace(layout, parts.workspace, backend_, parts.world, parts.trace);
  }
  shape_.first = layout.first();
  shape_.last = layout.last();
  shape_.layers = layout.config.layers;
  shape_.streams_cache = layout.config.policy.cache.device < 100.0;
  shape_.moves_hidden = layout.config.policy.activations.device < 100.0;
  const auto batches = static_cast<std::size_t>(layout.batching.num_gpu_batches);
  shape_.gpu_batches.reserve(batches);
  tasks_.reserve(static_cast<std::size_t>(stream_layers(shape_)) * (2 + 5 * batches));
  open_.resize(batches);
  sequences_.resize(batches);
  for (auto& list : sequences_) {
    list.reserve(static_cast<std::size_t>(layout.batching.gpu_batch_size));
  }
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

void Executor::begin(const Pass& pass) {
  shape_.gpu_batches.clear();
  for (std::int32_t g = 0; g < parts_.layout.batching.num_gpu_batches; ++g) {
    if (tokens_of(pass, g) > 0) shape_.gpu_batches.push_back(g);
  }
  build_schedule(shape_, tasks_);
  begin_cache(pass);
  indices_.fill(pass);
  if (logits_) logits_->begin(pass, indices_);
  for (const std::int32_t g : shape_.gpu_batches) {
    indices_.upload(pass, g, logits_ ? logits_->count(g) : 0);
  }
}

void Executor::begin_cache(const Pass& pass) {
  parts_.cache.forget(pass.freed);
  for (auto& list : sequences_) list.clear();
  for (const PassRow& row : pass.rows) {
    sequences_[static_cast<std::size_t>(row.gpu_batch)].push_back(
        {row.slot, row.first_token, row.new_tokens, row.position + row.new_tokens, row.total});
  }
  for (const std::int32_t g : shape_.gpu_batches) {
    parts_.cache.begin(g, sequences_[static_cast<std::size_t>(g)],
                       static_cast<std::int32_t>(pass.number));
  }
}

void Executor::run_task(const Task& task, const Pass& pass, PassInbox& inbox) {
  dispatch(task, pass, inbox);
  if (!overlaps_) finish_lanes();
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

void Executor::dispatch(const Task& task, const Pass& pass, PassInbox& inbox) {
  switch (task.kind) {
    case TaskKind::acquire:
      return run_acquire(task, pass);
    case TaskKind::receive:
      return run_receive(task, pass, inbox);
    case TaskKind::embed:
      return run_embed(task, pass);
    case TaskKind::fetch_hidden:  // without overlap run_compute brings them, when they are needed
      if (!overlaps_) return;
      return parts_.activations.prefetch(task.gpu_batch, tokens_of(pass, task.gpu_batch));
    case TaskKind::fetch_cache:
      if (!overlaps_) return;
      return parts_.cache.prefetch(cache_layer(task), task.gpu_batch);
    case TaskKind::compute:
      return run_compute(task, pass);
    case TaskKind::store_cache:
      return run_store_cache(task);
    case TaskKind::send:
      return run_send(task, pass);
    case TaskKind::logits:
      return run_logits(task, pass);
    case TaskKind::release:
      return parts_.weights.release(lease_);
  }
}

void Executor::run_acquire(const Task& task, const Pass& pass) {
  parts_.world.step("layer", pass.number, parts_.layout.config.first_layer + cache_layer(task));
  lease_ = parts_.weights.acquire(task.layer, static_cast<std::int32_t>(pass.number));
}

TensorView Executor::open(const Pass& pass, std::int32_t gpu_batch, bool fresh) {
  OpenBatch& batch = opened(gpu_batch);
  if (!batch.open) {
    batch.hidden = parts_.activations.open(gpu_batch, tokens_of(pass, gpu_batch), fresh);
  }
  batch.open = true;
  return batch.hidden;
}

void Executor::close(std::int32_t gpu_batch, bool keep, Event read_by) {
  parts_.activations.close(gpu_batch, keep, read_by);
  opened(gpu_batch).open = false;
}

void Executor::run_receive(const Task& task, const Pass& pass, PassInbox& inbox) {
  const TensorView source = inbox.hidden(pass, task.gpu_batch);
  const TensorView hidden = open(pass, task.gpu_batch, true);
  backend_.copy(Lane::compute, hidden.data, source.data, source.bytes());
  inbox.consumed(pass, task.gpu_batch, backend_.record(Lane::compute));
}

void Executor::run_embed(const Task& task, const Pass& pass) {
  const IndexBuffers& indices = indices_.of(pass, task.gpu_batch);
  const TensorView hidden = open(pass, task.gpu_batch, true);
  embed(ops_, parts_.layout.model, GroupWeights(lease_), parts_.workspace.layer, indices.device_ids,
        indices.device_positions, hidden);
  close(task.gpu_batch, true);
}

void Executor::run_compute(const Task& task, const Pass& pass) {
  const TensorView hidden = open(pass, task.gpu_batch, false);
  set_ ^= 1;
  backend_.wait(Lane::compute, vectors_free_[set_].as(Activity::stall_results));
  const DecoderConfig& model = parts_.layout.model;
  const LayerWorkspace& layer = parts_.workspace.layer;
  attention_block(ops_, model, attention_of(lease_), layer,
                  {&parts_.cache, cache_layer(task), task.gpu_batch, set_}, hidden);
  mlp_block(ops_, model, mlp_of(lease_), layer, hidden);
  if (!shape_.last && is_last_layer(task)) indices_.was_read(pass, task.gpu_batch);
}

void Executor::run_store_cache(const Task& task) {
  const OpenBatch& batch = opened(task.gpu_batch);
  const LayerWorkspace& layer = parts_.workspace.layer;
  vectors_free_[set_] = parts_.cache.store(cache_layer(task), task.gpu_batch,
                                           layer.keys[set_].slice(0, batch.hidden.rows),
                                           layer.values[set_].slice(0, batch.hidden.rows));
  if (is_last_layer(task) && !shape_.last) return;  // its send closes it
  // After the last layer only rows whose logits are wanted are needed any more.
  close(task.gpu_batch, !is_last_layer(task) || logits_->count(task.gpu_batch) > 0);
}

void Executor::run_send(const Task& task, const Pass& pass) {
  const TensorView hidden = opened(task.gpu_batch).hidden;
  const Event gone = parts_.channel != nullptr ? send_to_device(hidden)
                                               : sends_->send(pass, task.gpu_batch, hidden);
  close(task.gpu_batch, false, gone);
}

Event Executor::send_to_device(TensorView hidden) {
  backend_.wait(Lane::send, backend_.record(Lane::compute));
  parts_.channel->send(hidden.data, hidden.bytes());
  parts_.trace.add_bytes(Activity::send, hidden.bytes());
  // Straight from the activations: what comes into that buffer next waits until it has gone, which
  // is when the next stage has it.
  return backend_.record(Lane::send).as(Activity::stall_message);
}

void Executor::run_logits(const Task& task, const Pass& pass) {
  if (logits_->count(task.gpu_batch) > 0) {
    const TensorView hidden = open(pass, task.gpu_batch, false);
    logits_->run(pass, task.gpu_batch, lease_, hidden, indices_.of(pass, task.gpu_batch));
    close(task.gpu_batch, false);
  }
  indices_.was_read(pass, task.gpu_batch);
}

}  // namespace sluice::stage
