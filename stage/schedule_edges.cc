#include "stage/schedule_edges.h"

#include <algorithm>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::stage {

namespace {

bool moves_hidden(TaskKind kind) {
  return kind == TaskKind::store_hidden || kind == TaskKind::write_hidden ||
         kind == TaskKind::read_hidden || kind == TaskKind::fetch_hidden;
}

}  // namespace

Queue queue_of(const Task& task, const ScheduleShape& shape) {
  const bool mover = shape.hidden_on_disk && moves_hidden(task.kind);
  switch (task.resource) {
    case Resource::none:
      return Queue::none;
    case Resource::disk:
      if (task.kind == TaskKind::read_weights) return Queue::weight_disk;
      if (task.kind == TaskKind::write_cache) return Queue::cache_writes;
      return mover ? Queue::hidden_disk : Queue::disk;
    case Resource::host_to_device:
      if (task.kind == TaskKind::load_weights) return Queue::weight_copies;
      if (task.kind == TaskKind::fetch_cache && shape.cache_on_disk) return Queue::cache_to_device;
      return mover ? Queue::hidden_to_device : Queue::host_to_device;
    case Resource::device_to_host:
      return mover ? Queue::hidden_to_host : Queue::device_to_host;
    case Resource::compute:
      return Queue::compute;
    case Resource::host_compute:
      return Queue::host_compute;
    case Resource::send:
      return shape.by_device ? Queue::send : Queue::outbox;
    case Resource::receive:
      return Queue::receive;
    case Resource::outbox:
      return Queue::outbox;
  }
  return Queue::none;
}

ScheduleEdges::ScheduleEdges(const ScheduleShape& shape, std::int32_t gpu_batches,
                             std::int32_t micro_batches)
    : gpu_batches_(gpu_batches) {
  const auto batches = static_cast<std::size_t>(gpu_batches);
  weight_staging_.resize(shape.ring.slots());
  released_.resize(shape.ring.cycle() * (shape.ring.slots() + 1) + 1);
  hidden_.resize(shape.moves_hidden ? 2 : batches);
  homes_.resize(batches);
  read_.resize(batches);
  for (std::vector<Pair>* pairs : {&tables_, &indices_, &received_, &outgoing_}) {
    pairs->resize(batches);
  }
  begun_.resize(batches, -1);
  appended_.resize(static_cast<std::size_t>(shape.layers) *
                   static_cast<std::size_t>(micro_batches) * batches);
}

void ScheduleEdges::add(const ScheduleShape& shape, std::span<Task> tasks) {
  shape_ = &shape;
  ++pass_;
  index_ = 0;
  appended_before_ = last_[static_cast<std::size_t>(Queue::host_compute)];
  for (Task& task : tasks) {
    std::fill(std::begin(task.after), std::end(task.after), Edge{});
    if (task.kind == TaskKind::await) {
      add_await(task);
    } else {
      add_task(task);
    }
    last_[static_cast<std::size_t>(queue_of(task, shape))] = {pass_, index_};
    ++index_;
  }
}

// ----------------------------------------------------------------------------------- the one rule

void ScheduleEdges::wait_for(Task& task, Reference reference) {
  if (reference.task < 0) return;
  const Edge edge{static_cast<std::int32_t>(pass_ - reference.pass), reference.task};
  for (Edge& free : task.after) {
    if (free == edge) return;
    if (free.task >= 0) continue;
    free = edge;
    return;
  }
  throw Error(ExitStatus::failure, "a task of the schedule comes after too many (a bug of sluice)");
}

/// After all that use it now, but for those of its own queue, which are done before anyway.
void ScheduleEdges::wait_free(Task& task, Buffer& buffer) {
  const auto own = static_cast<std::size_t>(queue_of(task, *shape_));
  for (std::size_t queue = 1; queue < kQueueCount; ++queue) {
    if (queue != own) wait_for(task, buffer.uses[queue]);
  }
}

void ScheduleEdges::read(Task& task, Buffer& buffer) {
  const Queue own = queue_of(task, *shape_);
  if (buffer.writer != own) wait_for(task, buffer.uses[static_cast<std::size_t>(buffer.writer)]);
  buffer.uses[static_cast<std::size_t>(own)] = {pass_, index_};
}

void ScheduleEdges::write(Task& task, Buffer& buffer) {
  wait_free(task, buffer);
  buffer = {};
  buffer.writer = queue_of(task, *shape_);
  buffer.uses[static_cast<std::size_t>(buffer.writer)] = {pass_, index_};
}

// ------------------------------------------------------------------------------- which buffer it
// is

std::size_t ScheduleEdges::batch_of(const Task& task) const {
  return static_cast<std::size_t>(batch(task).index);
}

ScheduleEdges::Buffer& ScheduleEdges::of_pass(std::vector<Pair>& pairs, const Task& task) {
  return pairs[batch_of(task)][static_cast<std::size_t>(pass_ % 2)];
}

ScheduleEdges::Buffer& ScheduleEdges::tables(const Task& task) {
  const std::size_t batch = batch_of(task);
  return tables_[batch][static_cast<std::size_t>(begun_[batch] % 2)];
}

std::int64_t ScheduleEdges::key_of(const Task& task) const {
  const std::int64_t batch =
      std::int64_t{shape_->micro_batch} * gpu_batches_ + static_cast<std::int64_t>(batch_of(task));
  return batch * shape_->layers + task.layer;
}

/// Taken at the first call for a step, in turn, unless the other step still has it.
ScheduleEdges::Staging& ScheduleEdges::staging_of(const Task& task) {
  const std::int64_t key = key_of(task);
  for (Staging& staging : staging_) {
    if (staging.content == key) return staging;
  }
  if (staging_[next_staging_].content >= 0) next_staging_ = 1 - next_staging_;
  Staging& staging = staging_[next_staging_];
  next_staging_ = 1 - next_staging_;
  staging.content = key;
  return staging;
}

ScheduleEdges::HiddenBuffer& ScheduleEdges::holder_of(const Task& task) {
  if (shape_->mlp_once) return hidden_.front();  // they lie one behind the other, anew in each pass
  const std::size_t batch = batch_of(task);
  if (!shape_->moves_hidden) return hidden_[batch];
  const auto holds = [batch](const HiddenBuffer& hidden) {
    return hidden.gpu_batch == static_cast<std::int32_t>(batch);
  };
  return *std::find_if(hidden_.begin(), hidden_.end(), holds);
}

/// The buffer that was taken longest ago of those that are free; its own where each GPU batch has
/// one.
ScheduleEdges::Buffer& ScheduleEdges::take_hidden(const Task& task) {
  HiddenBuffer* chosen = nullptr;
  if (!shape_->moves_hidden) {
    chosen = &holder_of(task);
  } else {
    for (HiddenBuffer& hidden : hidden_) {
      const bool is_free = hidden.gpu_batch < 0;
      if (is_free && (chosen == nullptr || hidden.taken < chosen->taken)) chosen = &hidden;
    }
  }
  chosen->gpu_batch = static_cast<std::int32_t>(batch_of(task));
  chosen->taken = ++hidden_takes_;
  return chosen->buffer;
}

void ScheduleEdges::leave_hidden(const Task& task) { holder_of(task).gpu_batch = -1; }

// ------------------------------------------------------------------------------- what each task
// uses

/// What the issuing thread waits for needs no edge from what it issues later.
void ScheduleEdges::add_await(Task& task) {
  switch (task.way_for) {
    case TaskKind::receive:
      wait_free(task, of_pass(received_, task));
      of_pass(received_, task) = {};
      break;
    case TaskKind::take_hidden:
      wait_free(task, of_pass(received_, task));
      of_pass(received_, task) = {};
      break;
    case TaskKind::upload_tables:
      ++begun_[batch_of(task)];
      wait_free(task, tables(task));
      tables(task) = {};
      break;
    case TaskKind::upload_indices:
      wait_free(task, of_pass(indices_, task));
      of_pass(indices_, task) = {};
      break;
    case TaskKind::sample:
      wait_free(task, lists_[static_cast<std::size_t>(pass_ % 2)]);
      lists_[static_cast<std::size_t>(pass_ % 2)] = {};
      break;
    case TaskKind::lease:
      // The stream's thread waits for it before the copies, and this one until they are issued.
      ++item_;
      wait_for_place(task);
      break;
    case TaskKind::fetch_cache:
      wait_for(task, staging_of(task).fetched);
      break;
    case TaskKind::read_cache:
      settle(task, false);
      break;
    case TaskKind::append_cache:
      settle(task, true);
      break;
    case TaskKind::stage_hidden:
      wait_free(task, of_pass(outgoing_, task));
      of_pass(outgoing_, task) = {};
      break;
    case TaskKind::logits:
      ++logit_sets_;
      wait_free(task, host_logits());
      host_logits() = {};
      break;
    default:
      finish_lanes(task);
  }
}

/// Pages that a task wants to read, or to write anew, must be on disk; and the next buffer too.
void ScheduleEdges::settle(Task& task, bool next) {
  for (std::size_t i = 0; i < write_staging_.size(); ++i) {
    Staging& staging = write_staging_[i];
    // What a row starts behind may have been stored by any GPU batch.
    const bool may_be_it = !next && batch(task).joins &&
                           staging.content % shape_->layers == key_of(task) % shape_->layers;
    const bool wanted = may_be_it || staging.content == key_of(task) || (next && i == next_write_);
    if (staging.content < 0 || !wanted) continue;
    wait_free(task, staging.buffer);
    staging = {};
  }
}

void ScheduleEdges::finish_lanes(Task& task) {
  for (const Queue queue : {Queue::compute, Queue::host_to_device, Queue::cache_to_device,
                            Queue::device_to_host, Queue::host_compute}) {
    wait_for(task, last_[static_cast<std::size_t>(queue)]);
  }
}

/// After the releases of what lay where this item goes; without overlap, after all of them.
void ScheduleEdges::wait_for_place(Task& task) {
  const auto stay = static_cast<std::int64_t>(
      shape_->ring.first_that_may_stay(static_cast<std::uint64_t>(item_)));
  if (stay > 0) wait_for(task, released(stay - 1));
  if (!shape_->overlaps) wait_for(task, last_released_);
}

bool ScheduleEdges::streams(const Task& task) const {
  return task.group >= 0 && shape_->groups[static_cast<std::size_t>(task.group)].streamed;
}

void ScheduleEdges::add_task(Task& task) {
  if (task.resource == Resource::compute) return add_compute(task);
  if (task.resource != Resource::none) return add_moves(task);
  if (!streams(task)) return;
  if (task.kind == TaskKind::lease) {
    leased_ = loaded_;
    return;
  }
  wait_for(task, last_[static_cast<std::size_t>(Queue::compute)]);
  wait_for(task, leased_);  // where nothing was computed with it, its copies must be over still
  released(item_) = last_released_ = {pass_, index_};
}

void ScheduleEdges::add_compute(Task& task) {
  // The lease makes the lane wait: whatever comes first on it.
  wait_for(task, std::exchange(leased_, {}));
  switch (task.kind) {
    case TaskKind::upload_tables:
      return read(task, tables(task));
    case TaskKind::upload_indices:
      return read(task, of_pass(indices_, task));
    case TaskKind::take_hidden:
      read(task, of_pass(received_, task));
      return write(task, take_hidden(task));
    case TaskKind::embed:
      read(task, of_pass(indices_, task));
      return write(task, take_hidden(task));
    case TaskKind::attention:
      ++vector_sets_;
      read(task, of_pass(indices_, task));  // positions
      write(task, hidden_of(task));
      return write(task, vectors());
    case TaskKind::attend:
      if (task.part == 1) {
        Staging& staging = staging_of(task);
        write(task, staging.buffer);
        staging.content = -1;
      }
      return;
    case TaskKind::attention_output:
      if (shape_->lends(batch(task))) {
        read(task, rows());
      }
      return write(task, hidden_of(task));
    case TaskKind::mlp:
      if (task.gpu_batch < 0) return write(task, hidden_.front().buffer);
      write(task, hidden_of(task));
      if (task.layer + 1 == shape_->layers && shape_->last && batch(task).logits == 0) {
        leave_hidden(task);
      }
      return;
    case TaskKind::logits:
      read(task, of_pass(indices_, task));
      write(task, hidden_of(task));
      if (task.part + 1 == shape_->chunks(batch(task))) leave_hidden(task);
      return write(task, device_logits_);
    default:
      return;
  }
}

void ScheduleEdges::append_cache(Task& task) {
  read(task, tables(task));
  read(task, rows());
  appended_[static_cast<std::size_t>(key_of(task))] = {pass_, index_};
  if (task.part != 1) return;
  Staging& staging = write_staging_[next_write_];
  next_write_ = 1 - next_write_;
  staging.content = key_of(task);
  write(task, staging.buffer);
}

void ScheduleEdges::add_moves(Task& task) {
  switch (task.kind) {
    case TaskKind::read_weights:
      return write(task, weight_staging(item_ + 1));
    case TaskKind::load_weights:
      read(task, weight_staging(item_));
      wait_for_place(task);
      loaded_ = {pass_, index_};
      return;
    case TaskKind::receive:
      return write(task, of_pass(received_, task));
    case TaskKind::store_hidden:
      read(task, hidden_of(task));
      leave_hidden(task);
      return write(task, homes_[batch_of(task)]);
    case TaskKind::write_hidden:
      return read(task, homes_[batch_of(task)]);
    case TaskKind::read_hidden:
      read_[batch_of(task)] = {pass_, index_};
      return read(task, homes_[batch_of(task)]);
    case TaskKind::fetch_hidden:
      wait_for(task, std::exchange(read_[batch_of(task)], {}));
      read(task, homes_[batch_of(task)]);
      return write(task, take_hidden(task));
    case TaskKind::read_cache:
      staging_of(task).read = {pass_, index_};
      return;
    case TaskKind::fetch_cache: {
      Staging& staging = staging_of(task);
      wait_for(task, std::exchange(staging.read, {}));
      wait_for(task, batch(task).joins ? appended_before_
                                       : appended_[static_cast<std::size_t>(key_of(task))]);
      staging.fetched = {pass_, index_};
      return write(task, staging.buffer);
    }
    case TaskKind::lend_rows:
      ++row_sets_;
      read(task, vectors());
      return write(task, rows());
    case TaskKind::attend_on_host:
      read(task, tables(task));
      return write(task, rows());
    case TaskKind::store_cache:
      // The attention has read the pages that are appended to now.
      ++row_sets_;
      wait_for(task, last_[static_cast<std::size_t>(Queue::compute)]);
      read(task, vectors());
      return write(task, rows());
    case TaskKind::append_cache:
      return append_cache(task);
    case TaskKind::write_cache:
      return read(task, write_staging_[1 - next_write_].buffer);
    case TaskKind::stage_hidden:
      read(task, hidden_of(task));
      return write(task, of_pass(outgoing_, task));
    case TaskKind::send:
      read(task, shape_->by_device ? hidden_of(task) : of_pass(outgoing_, task));
      return leave_hidden(task);
    case TaskKind::take_results:
      read(task, device_logits_);
      return write(task, host_logits());
    case TaskKind::sample:
      read(task, host_logits());
      return read(task, lists_[static_cast<std::size_t>(pass_ % 2)]);
    default:
      return;
  }
}

}  // namespace sluice::stage
