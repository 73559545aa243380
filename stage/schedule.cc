#include "stage/schedule.h"

#include <algorithm>
#include <string>

#include "kernels/device/error.h"
#include "stage/stage_config.h"

namespace sluice::stage {

namespace {

using offload::Tier;

constexpr const char* kKindNames[] = {
    "await",        "upload tables", "upload ids", "read weights",  "load weights",
    "lease",        "release",       "receive",    "take hidden",   "embed",
    "read hidden",  "fetch hidden",  "read cache", "fetch cache",   "attention",
    "lend rows",    "host attends",  "attend",     "attention out", "store cache",
    "append cache", "write cache",   "mlp",        "store hidden",  "write hidden",
    "logits",       "take results",  "sample",     "stage hidden",  "send"};
constexpr const char* kResourceNames[] = {
    "",     "disk",    "host to device", "device to host", "compute", "host compute",
    "send", "receive", "outbox"};

Resource resource_of(TaskKind kind) {
  switch (kind) {
    case TaskKind::await:
    case TaskKind::lease:
    case TaskKind::release:
      return Resource::none;
    case TaskKind::read_weights:
    case TaskKind::read_hidden:
    case TaskKind::read_cache:
    case TaskKind::write_cache:
    case TaskKind::write_hidden:
      return Resource::disk;
    case TaskKind::load_weights:
    case TaskKind::fetch_hidden:
    case TaskKind::fetch_cache:
      return Resource::host_to_device;
    case TaskKind::lend_rows:
    case TaskKind::store_cache:
    case TaskKind::store_hidden:
    case TaskKind::take_results:
    case TaskKind::stage_hidden:
      return Resource::device_to_host;
    case TaskKind::attend_on_host:
    case TaskKind::append_cache:
      return Resource::host_compute;
    case TaskKind::receive:
      return Resource::receive;
    case TaskKind::send:
      return Resource::send;
    case TaskKind::sample:
      return Resource::outbox;
    default:
      return Resource::compute;
  }
}

class Builder {
 public:
  Builder(const ScheduleShape& shape, std::vector<Task>& tasks) : shape_(shape), tasks_(tasks) {
    tasks_.clear();
  }

  void run() {
    begin();
    if (shape_.first) embedding();
    for (layer_ = 0; layer_ < shape_.layers; ++layer_) {
      shape_.mlp_once ? layer_in_groups() : whole_layer();
    }
    layer_ = -1;
    if (shape_.last) head();
  }

 private:
  Task& add(TaskKind kind, std::int32_t gpu_batch = -1) {
    Task& task = tasks_.emplace_back();
    task.kind = kind;
    task.resource = resource_of(kind);
    task.group = group_;
    task.layer = layer_;
    task.gpu_batch = gpu_batch;
    return task;
  }
  Task& await(TaskKind way_for, std::int32_t gpu_batch = -1) {
    Task& task = add(TaskKind::await, gpu_batch);
    task.way_for = way_for;
    return task;
  }

  /// Without overlap nothing is issued before what was issued is done.
  void finish() {
    if (!shape_.overlaps) await(TaskKind::await);
  }

  std::int32_t count() const { return static_cast<std::int32_t>(shape_.gpu_batches.size()); }
  const GpuBatchShape& batch(std::int32_t b) const {
    return shape_.gpu_batches[static_cast<std::size_t>(b)];
  }
  bool is_last_layer() const { return layer_ + 1 == shape_.layers; }

  void begin() {
    for (std::int32_t b = 0; b < count() && !shape_.first; ++b) {
      if (!shape_.by_device) await(TaskKind::receive, b);
      add(TaskKind::receive, b);
    }
    for (std::int32_t b = 0; b < count(); ++b) {
      await(TaskKind::upload_tables, b);
      if (batch(b).in(Tier::device).sequences > 0 || shape_.streams(batch(b))) {
        add(TaskKind::upload_tables, b);
      }
    }
    for (std::int32_t b = 0; b < count(); ++b) await(TaskKind::upload_indices, b);
    if (shape_.last) await(TaskKind::sample);
    for (std::int32_t b = 0; b < count(); ++b) {
      add(TaskKind::upload_indices, b);
    }
  }

  void lease() {
    ++group_;
    const GroupShape& group = shape_.groups[static_cast<std::size_t>(group_)];
    if (group.streamed) {
      if (group.on_disk) add(TaskKind::read_weights);
      await(TaskKind::lease);
      add(TaskKind::load_weights);
    }
    add(TaskKind::lease);
    finish();
  }
  void release() {
    add(TaskKind::release);
    finish();
  }

  void embedding() {
    lease();
    for (std::int32_t b = 0; b < count(); ++b) {
      add(TaskKind::embed, b);
      finish();
      store_hidden(b);
    }
    release();
  }

  void store_hidden(std::int32_t b) {
    if (!shape_.moves_hidden) return;
    add(TaskKind::store_hidden, b);
    if (batch(b).hidden[static_cast<std::size_t>(Tier::disk)] > 0) add(TaskKind::write_hidden, b);
    finish();
  }

  /// Back to the device, for what comes next of this GPU batch.
  void fetch_hidden(std::int32_t b, std::int32_t layer) {
    if (!shape_.moves_hidden) return;
    if (batch(b).hidden[static_cast<std::size_t>(Tier::disk)] > 0) {
      add(TaskKind::read_hidden, b).layer = layer;
    }
    add(TaskKind::fetch_hidden, b).layer = layer;
    finish();
    fetched_ = b;
  }

  /// Pages that the next step needs beside the present step's computing.
  void fetch_cache(std::int32_t b, std::int32_t layer) {
    if (shape_.fetched_pages(batch(b)) == 0) return;
    if (shape_.cache_on_disk) await(TaskKind::fetch_cache, b).layer = layer;
    if (batch(b).in(Tier::disk).full_pages > 0) {
      await(TaskKind::read_cache, b).layer = layer;
      add(TaskKind::read_cache, b).layer = layer;
    }
    add(TaskKind::fetch_cache, b).layer = layer;
    finish();
  }

  void fetch_ahead(std::int32_t b) {
    const bool in_layer = b + 1 < count();
    const std::int32_t next = in_layer ? b + 1 : 0;
    if (in_layer || !is_last_layer()) fetch_cache(next, in_layer ? layer_ : layer_ + 1);
    // Its own GPU batch's hidden states are not home yet, and those of the first layer come.
    if (!shape_.moves_hidden || count() < 2) return;
    if (in_layer ? layer_ == 0 && !shape_.first : is_last_layer()) return;
    fetch_hidden(next, in_layer ? layer_ : layer_ + 1);
  }

  /// What comes before a GPU batch's attention.
  void bring(std::int32_t b) {
    const bool received = layer_ == 0 && !shape_.first;
    if (!shape_.overlaps || (layer_ == 0 && b == 0)) fetch_cache(b, layer_);
    if (received) {
      if (!shape_.by_device) await(TaskKind::take_hidden, b);
      add(TaskKind::take_hidden, b);
      finish();
    } else if (fetched_ != b) {
      fetch_hidden(b, layer_);
    }
    fetched_ = -1;
    if (shape_.overlaps) fetch_ahead(b);
  }

  void attention(std::int32_t b) {
    add(TaskKind::attention, b);
    if (shape_.lends(batch(b))) {
      add(TaskKind::lend_rows, b);
      add(TaskKind::attend_on_host, b);
    }
    if (batch(b).in(Tier::device).sequences > 0) add(TaskKind::attend, b);
    if (shape_.streams(batch(b))) {
      const bool fetches = shape_.fetched_pages(batch(b)) > 0;
      if (shape_.cache_on_disk && !fetches) await(TaskKind::fetch_cache, b);
      add(TaskKind::attend, b).part = 1;
    }
    add(TaskKind::attention_output, b);
    finish();
    if (shape_.streams(batch(b))) store_cache(b);
  }

  void store_cache(std::int32_t b) {
    add(TaskKind::store_cache, b);
    if (!shape_.host_attends && batch(b).in(Tier::host).sequences > 0) {
      add(TaskKind::append_cache, b);
    }
    const CachedRows& disk = batch(b).in(Tier::disk);
    if (disk.filled_pages > 0) {
      await(TaskKind::append_cache, b);
      add(TaskKind::append_cache, b).part = 1;
      add(TaskKind::write_cache, b);
    }
    if (disk.partial > 0) add(TaskKind::append_cache, b).part = 2;
    finish();
  }

  /// After a GPU batch's last work in this layer.
  void leave(std::int32_t b) {
    if (is_last_layer() && !shape_.last) return send(b);
    // After the last layer only rows whose logits are wanted are needed any more.
    if (!is_last_layer() || batch(b).logits > 0) store_hidden(b);
  }

  void send(std::int32_t b) {
    if (!shape_.by_device) {
      await(TaskKind::stage_hidden, b);
      add(TaskKind::stage_hidden, b);
    }
    add(TaskKind::send, b);
    finish();
  }

  void whole_layer() {
    lease();
    for (std::int32_t b = 0; b < count(); ++b) {
      bring(b);
      attention(b);
      add(TaskKind::mlp, b);
      finish();
      leave(b);
    }
    release();
  }

  void layer_in_groups() {
    lease();
    for (std::int32_t b = 0; b < count(); ++b) {
      bring(b);
      attention(b);
    }
    release();
    lease();
    if (count() > 0) add(TaskKind::mlp);
    finish();
    for (std::int32_t b = 0; b < count(); ++b) leave(b);
    release();
  }

  void head() {
    lease();
    for (std::int32_t b = 0; b < count(); ++b) {
      if (batch(b).logits > 0) fetch_hidden(b, layer_);
      for (std::int32_t chunk = 0; chunk < shape_.chunks(batch(b)); ++chunk) {
        await(TaskKind::logits, b).part = chunk;
        for (const TaskKind kind : {TaskKind::logits, TaskKind::take_results, TaskKind::sample}) {
          add(kind, b).part = chunk;
        }
        finish();
      }
    }
    release();
  }

  const ScheduleShape& shape_;
  std::vector<Task>& tasks_;
  std::int32_t group_ = -1;
  std::int32_t layer_ = -1;
  std::int32_t fetched_ = -1;  // whose hidden states are on their way already
};

}  // namespace

const char* name_of(TaskKind kind) { return kKindNames[static_cast<std::size_t>(kind)]; }
const char* name_of(Resource resource) {
  return kResourceNames[static_cast<std::size_t>(resource)];
}

void build_schedule(const ScheduleShape& shape, std::vector<Task>& tasks) {
  for (const GpuBatchShape& batch : shape.gpu_batches) {
    if (batch.index < 0 || batch.index >= kMaxGpuBatches) {
      throw ConfigError("batching.num_gpu_batches: at most " + std::to_string(kMaxGpuBatches) +
                        " GPU batches fit a micro-batch");
    }
  }
  Builder(shape, tasks).run();
}

std::size_t most_tasks(const ScheduleShape& shape, std::int32_t gpu_batches, std::int64_t logits) {
  const auto batches = static_cast<std::size_t>(gpu_batches);
  const auto chunks = static_cast<std::size_t>((logits + shape.logit_rows - 1) / shape.logit_rows);
  // The most there are of each, and an await behind each without overlap.
  const std::size_t leases = 2 * 7;
  const std::size_t layer = leases + 28 * batches;
  return 6 * batches + 1 + leases + 5 * batches + static_cast<std::size_t>(shape.layers) * layer +
         batches * (3 + 5 * (chunks + 1));
}

}  // namespace sluice::stage
