#include "stage/executor.h"

#include <algorithm>

namespace sluice::stage {

namespace {

constexpr std::size_t kOutboxCapacity = 64;

}  // namespace

Executor::Executor(const StageParts& parts)
    : parts_(parts),
      backend_(*parts.engine.backend),
      ops_(*parts.engine.device_ops),
      overlaps_(parts.layout.config.policy.overlap),
      sender_(parts.layout, parts.workspace, parts.world, parts.trace),
      sampler_(parts.layout, parts.workspace, parts.world, parts.trace),
      histories_(parts.layout.last() && parts.layout.device_samples
                     ? parts.layout.batching.slots(parts.layout.stages)
                     : 0,
                 parts.layout.batching.max_sequence_tokens),
      outbox_(backend_,
              parts.layout.last() ? static_cast<OutboxHandler&>(sampler_)
                                  : static_cast<OutboxHandler&>(sender_),
              kOutboxCapacity) {
  const StageLayout& layout = parts.layout;
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
  logit_first_.resize(batches);
  logit_count_.resize(batches);
  indices_read_.resize(static_cast<std::size_t>(layout.buffers()));
  sent_.resize(static_cast<std::size_t>(layout.buffers()), 0);
}

Executor::~Executor() = default;

std::int64_t Executor::tokens_of(const Pass& pass, std::int32_t gpu_batch) const {
  return pass.batch_tokens[static_cast<std::size_t>(gpu_batch)];
}

std::size_t Executor::buffer_of(const Pass& pass, std::int32_t gpu_batch) const {
  return static_cast<std::size_t>((pass.number % 2) * parts_.layout.batching.num_gpu_batches +
                                  gpu_batch);
}

void Executor::run(const Pass& pass, PassInbox& inbox) {
  begin_pass(pass);
  for (const Task& task : tasks_) {
    run_task(task, pass, inbox);
    if (!overlaps_) finish_lanes();
    inbox.poll();
  }
  if (shape_.last) {
    OutboxItem item;
    item.kind = ResultSampler::kFinish;
    item.buffer = static_cast<std::int32_t>(pass.number % 2);
    finished_[pass.number % 2] = outbox_.post(item);
  }
}

void Executor::drain() {
  outbox_.wait(std::max({finished_[0], finished_[1],
                         sent_.empty() ? 0 : *std::max_element(sent_.begin(), sent_.end())}));
  sender_.drain();
  sampler_.drain();
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
  return shape_.last ? sampler_.cause() : sender_.cause();
}

void Executor::begin_pass(const Pass& pass) {
  shape_.gpu_batches.clear();
  for (std::int32_t g = 0; g < parts_.layout.batching.num_gpu_batches; ++g) {
    if (tokens_of(pass, g) > 0) shape_.gpu_batches.push_back(g);
  }
  build_schedule(shape_, tasks_);
  begin_cache(pass);
  fill_indices(pass);
  if (shape_.last) list_logit_rows(pass);
  if (shape_.last && parts_.layout.device_samples) histories_.take(pass);
  upload_indices(pass);
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

void Executor::fill_indices(const Pass& pass) {
  const bool is_end = shape_.first || shape_.last;  // a middle stage has no use for ids
  std::size_t next = 0;
  for (const std::int32_t g : shape_.gpu_batches) {
    backend_.synchronize(indices_read_[buffer_of(pass, g)]);
  }
  for (const PassRow& row : pass.rows) {
    const IndexBuffers& indices = parts_.workspace.indices[buffer_of(pass, row.gpu_batch)];
    for (std::int32_t i = 0; i < row.new_tokens; ++i) {
      if (is_end) indices.host_ids[row.first_token + i] = pass.tokens[next++];
      indices.host_positions[row.first_token + i] = row.position + i;
    }
  }
}

void Executor::upload_indices(const Pass& pass) {
  // On the compute lane itself: a few hundred bytes, and the arrays are free when it has read them.
  for (const std::int32_t g : shape_.gpu_batches) {
    const IndexBuffers& indices = parts_.workspace.indices[buffer_of(pass, g)];
    const std::size_t bytes = static_cast<std::size_t>(tokens_of(pass, g)) * sizeof(std::int32_t);
    if (shape_.first) {
      backend_.copy(Lane::compute, indices.device_ids, indices.host_ids, bytes);
    }
    backend_.copy(Lane::compute, indices.device_positions, indices.host_positions, bytes);
    const std::int32_t logits = shape_.last ? logit_count_[static_cast<std::size_t>(g)] : 0;
    if (logits > 0) {
      backend_.copy(Lane::compute, indices.device_logit_rows, indices.host_logit_rows,
                    static_cast<std::size_t>(logits) * sizeof(std::int32_t));
    }
  }
}

void Executor::list_logit_rows(const Pass& pass) {
  outbox_.wait(finished_[pass.number % 2]);  // the pass before the last has left its lists
  ResultSampler::Source& source = sampler_.source(pass.number);
  source.pass = &pass;
  source.rows.clear();
  std::fill(logit_count_.begin(), logit_count_.end(), 0);
  std::size_t next = 0;
  for (std::size_t r = 0; r < pass.rows.size(); ++r) {
    const PassRow& row = pass.rows[r];
    const auto g = static_cast<std::size_t>(row.gpu_batch);
    if (logit_count_[g] == 0) logit_first_[g] = static_cast<std::int32_t>(source.rows.size());
    std::int32_t* rows = parts_.workspace.indices[buffer_of(pass, row.gpu_batch)].host_logit_rows;
    add_logit_rows(pass, static_cast<std::int32_t>(r), pass.tokens.data() + next, rows,
                   logit_count_[g]);
    next += static_cast<std::size_t>(row.new_tokens);
  }
  OutboxItem item;
  item.kind = ResultSampler::kBegin;
  item.buffer = static_cast<std::int32_t>(pass.number % 2);
  outbox_.post(item);
}

void Executor::add_logit_rows(const Pass& pass, std::int32_t row_index, const std::int32_t* tokens,
                              std::int32_t* rows, std::int32_t& count) {
  const PassRow& row = pass.rows[static_cast<std::size_t>(row_index)];
  std::vector<LogitRow>& wanted = sampler_.source(pass.number).rows;
  for (std::int32_t i = 0; row.prompt_logprobs && i < row.new_tokens; ++i) {
    const std::int32_t following = i + 1 < row.new_tokens ? tokens[i + 1] : row.next_token;
    if (following < 0) continue;  // the prompt's last token: what follows is sampled
    rows[count++] = row.first_token + i;
    wanted.push_back({row_index, row.position + i + 1, following});
  }
  if (row.sample) {
    rows[count++] = row.first_token + row.new_tokens - 1;
    wanted.push_back({row_index, -1, -1});
  }
}

void Executor::run_task(const Task& task, const Pass& pass, PassInbox& inbox) {
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

void Executor::run_receive(const Task& task, const Pass& pass, PassInbox& inbox) {
  const TensorView source = inbox.hidden(pass, task.gpu_batch);
  OpenBatch& batch = opened(task.gpu_batch);
  batch.hidden = parts_.activations.open(task.gpu_batch, source.rows, true);
  batch.open = true;
  backend_.copy(Lane::compute, batch.hidden.data, source.data, source.bytes());
  inbox.consumed(pass, task.gpu_batch, backend_.record(Lane::compute));
}

void Executor::run_embed(const Task& task, const Pass& pass) {
  const IndexBuffers& indices = parts_.workspace.indices[buffer_of(pass, task.gpu_batch)];
  OpenBatch& batch = opened(task.gpu_batch);
  batch.hidden = parts_.activations.open(task.gpu_batch, tokens_of(pass, task.gpu_batch), true);
  batch.open = true;
  embed(ops_, parts_.layout.model, GroupWeights(lease_), parts_.workspace.layer, indices.device_ids,
        indices.device_positions, batch.hidden);
  close(task.gpu_batch, true);
}

void Executor::run_compute(const Task& task, const Pass& pass) {
  OpenBatch& batch = opened(task.gpu_batch);
  if (!batch.open) {
    batch.hidden = parts_.activations.open(task.gpu_batch, tokens_of(pass, task.gpu_batch), false);
    batch.open = true;
  }
  set_ ^= 1;
  backend_.wait(Lane::compute, vectors_free_[set_].as(Activity::stall_results));
  const DecoderConfig& model = parts_.layout.model;
  const LayerWorkspace& layer = parts_.workspace.layer;
  attention_block(ops_, model, attention_of(lease_), layer,
                  {parts_.cache, cache_layer(task), task.gpu_batch, set_}, batch.hidden);
  mlp_block(ops_, model, mlp_of(lease_), layer, batch.hidden);
  if (!shape_.last && cache_layer(task) + 1 == shape_.layers) {
    indices_read_[buffer_of(pass, task.gpu_batch)] = backend_.record(Lane::compute);
  }
}

void Executor::run_store_cache(const Task& task) {
  const OpenBatch& batch = opened(task.gpu_batch);
  const LayerWorkspace& layer = parts_.workspace.layer;
  vectors_free_[set_] = parts_.cache.store(cache_layer(task), task.gpu_batch,
                                           layer.keys[set_].slice(0, batch.hidden.rows),
                                           layer.values[set_].slice(0, batch.hidden.rows));
  const bool is_last_layer = cache_layer(task) + 1 == shape_.layers;
  if (is_last_layer && !shape_.last) return;  // its send closes it
  // After the last layer only rows whose logits are wanted are needed any more.
  const bool keep = !is_last_layer || logit_count_[static_cast<std::size_t>(task.gpu_batch)] > 0;
  close(task.gpu_batch, keep);
}

void Executor::close(std::int32_t gpu_batch, bool keep, Event read_by) {
  parts_.activations.close(gpu_batch, keep, read_by);
  opened(gpu_batch).open = false;
}

void Executor::run_send(const Task& task, const Pass& pass) {
  if (parts_.channel != nullptr) return send_to_device(task.gpu_batch);
  const std::size_t buffer = buffer_of(pass, task.gpu_batch);
  const TensorView hidden = opened(task.gpu_batch).hidden;
  outbox_.wait(sent_[buffer]);
  sender_.wait_gone(static_cast<std::int32_t>(buffer));
  const TensorView target = parts_.workspace.outgoing[buffer].slice(0, hidden.rows);
  backend_.wait(Lane::device_to_host, backend_.record(Lane::compute));
  backend_.copy(Lane::device_to_host, target.data, hidden.data, hidden.bytes());
  OutboxItem item;
  item.ready = backend_.record(Lane::device_to_host);
  item.buffer = static_cast<std::int32_t>(buffer);
  item.gpu_batch = task.gpu_batch;
  item.count = static_cast<std::int32_t>(hidden.rows);
  sent_[buffer] = outbox_.post(item);
  close(task.gpu_batch, false, item.ready);
}

void Executor::send_to_device(std::int32_t gpu_batch) {
  const TensorView hidden = opened(gpu_batch).hidden;
  backend_.wait(Lane::send, backend_.record(Lane::compute));
  parts_.channel->send(hidden.data, hidden.bytes());
  parts_.trace.add_bytes(Activity::send, hidden.bytes());
  // Straight from the activations: what comes into that buffer next waits until it has gone, which
  // is when the next stage has it.
  close(gpu_batch, false, backend_.record(Lane::send).as(Activity::stall_message));
}

void Executor::run_logits(const Task& task, const Pass& pass) {
  const auto g = static_cast<std::size_t>(task.gpu_batch);
  const auto rows = static_cast<std::int32_t>(parts_.layout.logit_rows());
  OpenBatch& batch = opened(task.gpu_batch);
  if (logit_count_[g] > 0) {
    batch.hidden = parts_.activations.open(task.gpu_batch, tokens_of(pass, task.gpu_batch), false);
    for (std::int32_t offset = 0; offset < logit_count_[g]; offset += rows) {
      const std::int32_t count = std::min(rows, logit_count_[g] - offset);
      const IndexBuffers& indices = parts_.workspace.indices[buffer_of(pass, task.gpu_batch)];
      const auto used = static_cast<std::size_t>(logits_used_++ % 2);
      outbox_.wait(logits_taken_[used]);
      if (parts_.layout.device_samples) upload_samples(pass, used, logit_first_[g] + offset, count);
      backend_.wait(Lane::compute, logits_copied_.as(Activity::stall_results));
      const TensorView logits =
          output_head(ops_, parts_.layout.model, GroupWeights(lease_), parts_.workspace.head,
                      batch.hidden, indices.device_logit_rows + offset, count);
      take_logits_home(logits, used);
      OutboxItem item;
      item.ready = logits_copied_;
      item.kind = ResultSampler::kLogits;
      item.buffer = static_cast<std::int32_t>(pass.number % 2);
      item.gpu_batch = static_cast<std::int32_t>(used);
      item.first = logit_first_[g] + offset;
      item.count = count;
      logits_taken_[used] = outbox_.post(item);
    }
    close(task.gpu_batch, false);
  }
  indices_read_[buffer_of(pass, task.gpu_batch)] = backend_.record(Lane::compute);
}

void Executor::upload_samples(const Pass& pass, std::size_t set, std::int32_t first,
                              std::int32_t count) {
  const SampleBuffers& sampling = parts_.workspace.sampling;
  const std::span<const LogitRow> wanted =
      std::span<const LogitRow>(sampler_.source(pass.number).rows)
          .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  const std::int32_t history = fill_sample_rows(pass, wanted, histories_, sampling.host_rows[set],
                                                sampling.host_history[set]);
  // On the lane that reads them, which is done with the last chunk's then.
  backend_.copy(Lane::compute, sampling.device_rows, sampling.host_rows[set],
                wanted.size() * sizeof(kernels::SampleRow));
  if (history == 0) return;
  backend_.copy(Lane::compute, sampling.device_history, sampling.host_history[set],
                static_cast<std::size_t>(history) * sizeof(std::int32_t));
}

void Executor::take_logits_home(TensorView logits, std::size_t set) {
  const SampleBuffers& sampling = parts_.workspace.sampling;
  if (parts_.layout.device_samples) {
    ops_.sample(sampling.device_results, logits, sampling.device_rows, sampling.device_history);
  }
  backend_.wait(Lane::device_to_host, backend_.record(Lane::compute));
  if (parts_.layout.device_samples) {
    backend_.copy(Lane::device_to_host, sampling.host_results[set], sampling.device_results,
                  static_cast<std::size_t>(logits.rows) * sizeof(kernels::SampledRow));
  } else {
    backend_.copy(Lane::device_to_host, parts_.workspace.host_logits[set].data, logits.data,
                  logits.bytes());
  }
  logits_copied_ = backend_.record(Lane::device_to_host);
}

}  // namespace sluice::stage
