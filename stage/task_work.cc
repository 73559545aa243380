#include "stage/task_work.h"

#include <algorithm>
#include <cmath>

#include "offload/kv/kv_layout.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

namespace {

using offload::Tier;
using Products = StageWork::Products;

void add_tensor(Products& products, const offload::TensorPlacement& tensor) {
  products.bytes += static_cast<std::uint64_t>(tensor.info.rows) * tensor.row_bytes();
  if (tensor.info.rows <= 1) return;  // only matrices are multiplied with
  products.flop +=
      2.0 * static_cast<double>(tensor.info.rows) * static_cast<double>(tensor.info.columns);
}

/// `first`: the router and what comes with it, in a layer that has experts. Each expert is alike.
void add_experts(const MixtureTraits& mixture, const offload::GroupPlacement& group,
                 std::size_t first, Products& part) {
  Products expert;
  for (std::size_t t = 0; t < kExpertTensorCount; ++t) add_tensor(expert, group.tensors[first + t]);
  part.experts = mixture.experts;
  part.chosen = mixture.router.chosen;
  part.expert_bytes = expert.bytes;
  part.flop += mixture.router.chosen * expert.flop;
}

/// Adds a group's tensors to the blocks that read them. A layer is one group, or attention's comes
/// before the MLP's.
void add_layer_group(const offload::GroupPlacement& group, bool is_mlp, std::size_t layer,
                     const MixtureTraits& mixture, StageWork& work) {
  const std::size_t first = is_mlp ? 0 : static_cast<std::size_t>(kAttentionTensorCount);
  const std::size_t end = first + kMlpTensorCount;
  if (group.tensors.size() > end) add_experts(mixture, group, end, work.mlp[layer]);
  for (std::size_t t = 0; t < std::min(end, group.tensors.size()); ++t) {
    const bool is_output = t == kOutputWeight || t == kOutputBias || t == kAttentionOutNormWeight ||
                           t == kAttentionOutNormBias;
    Products& part = is_mlp || t >= kAttentionTensorCount ? work.mlp[layer]
                     : is_output                          ? work.output[layer]
                                                          : work.attention[layer];
    add_tensor(part, group.tensors[t]);
  }
}

void add_groups(const StageLayout& layout, const std::vector<offload::GroupPlacement>& groups,
                StageWork& work) {
  const auto layers = static_cast<std::size_t>(layout.config.layers);
  work.attention.resize(layers);
  work.output.resize(layers);
  work.mlp.resize(layers);
  const std::size_t first = layout.first() ? 1 : 0;
  const std::size_t of_layers = groups.size() - first - (layout.last() ? 1 : 0);
  const std::size_t per_layer = of_layers / layers;
  for (std::size_t i = 0; i < of_layers; ++i) {
    add_layer_group(groups[first + i], i % per_layer == 1, i / per_layer, layout.model.mixture,
                    work);
  }
  for (const offload::GroupPlacement& group : groups) {
    const std::uint64_t disk = group.bytes(Tier::disk);
    work.groups.push_back({group.bytes(Tier::host) + disk, disk});
  }
  if (layout.first()) {  // gathers two rows, and may project
    const offload::GroupPlacement& embedding = groups.front();
    Products project;
    add_tensor(project, embedding.tensors[kEmbeddingProject]);
    work.embed_flop = project.flop;
    work.embed_bytes = embedding.tensors[kTokens].row_bytes();
    if (layout.model.positions.kind == PositionKind::learned) {
      work.embed_bytes += embedding.tensors[kPositions].row_bytes();
    }
  }
  if (!layout.last()) return;
  for (const offload::TensorPlacement& tensor : groups.back().tensors) {
    add_tensor(work.head, tensor);
  }
}

TaskWork products(const Products& part, std::int64_t rows) {
  TaskWork work;
  work.flop = static_cast<double>(rows) * part.flop;
  work.weight_bytes = part.bytes;
  if (part.experts == 0) return work;
  const double missed = 1.0 - static_cast<double>(part.chosen) / part.experts;
  const double read = part.experts * (1.0 - std::pow(missed, static_cast<double>(rows)));
  work.weight_bytes += static_cast<std::uint64_t>(read * static_cast<double>(part.expert_bytes));
  return work;
}

std::uint64_t bytes_of(std::int64_t count, std::uint64_t each) {
  return static_cast<std::uint64_t>(count) * each;
}

/// Of rows that live in host memory or on disk: what crosses the link between layers.
std::int64_t rows_away(const GpuBatchShape& batch) {
  return batch.tokens - batch.hidden[static_cast<std::size_t>(Tier::device)];
}

class Pricer {
 public:
  Pricer(const Task& task, const ScheduleShape& shape, const StageWork& stage,
         const GpuBatchShape& batch)
      : task_(task), shape_(shape), stage_(stage), batch_(batch) {}

  TaskWork work() {
    switch (task_.resource) {
      case Resource::compute:
        return compute();
      case Resource::host_to_device:
      case Resource::device_to_host:
        copies();
        return work_;
      default:
        others();
        return work_;
    }
  }

 private:
  std::size_t layer() const { return static_cast<std::size_t>(task_.layer); }
  const StageWork::Group& group() const {
    return stage_.groups[static_cast<std::size_t>(task_.group)];
  }

  /// What the task's layer sees of the sequences of a tier.
  const CachedRows& seen(Tier tier) const {
    return stage_.windowed[layer()] != 0 ? batch_.in_window(tier) : batch_.in(tier);
  }

  /// Tokens of sequences whose new keys and values are taken home by the host.
  std::int64_t stored_tokens() const {
    return batch_.in(Tier::disk).tokens + (shape_.host_attends ? 0 : batch_.in(Tier::host).tokens);
  }
  std::int64_t fetched_pages() const {
    return seen(Tier::disk).history_pages +
           (shape_.host_attends ? 0 : seen(Tier::host).history_pages);
  }
  std::int64_t chunk_rows() const {
    return std::min(shape_.logit_rows, batch_.logits - task_.part * shape_.logit_rows);
  }

  /// ... whose logits are wanted.
  std::int64_t product_rows() const {
    const std::int64_t first = task_.part * shape_.logit_rows;
    return std::clamp<std::int64_t>(batch_.logits - batch_.features - first, 0, chunk_rows());
  }

  TaskWork compute() {
    switch (task_.kind) {
      case TaskKind::upload_tables: {
        const auto streamed = [&](std::int32_t CachedRows::*of) {
          return batch_.in(Tier::disk).*of + (shape_.host_attends ? 0 : batch_.in(Tier::host).*of);
        };
        const CachedRows& device = batch_.in(Tier::device);
        const std::int32_t lean = batch_.in(Tier::host).lean;  // in two tables
        for (const std::int64_t sequences :
             {device.dense, device.sparse, streamed(&CachedRows::dense),
              streamed(&CachedRows::sparse) - lean, lean, lean}) {
          if (sequences == 0) continue;
          work_.host_to_device +=
              stage_.tables * (stage_.table_bytes + bytes_of(sequences, stage_.table_row_bytes));
        }
        return work_;
      }
      case TaskKind::upload_indices:
        work_.host_to_device =
            bytes_of(batch_.tokens * (shape_.first ? 2 : 1) + batch_.logits, sizeof(std::int32_t));
        return work_;
      case TaskKind::take_hidden:
        if (!shape_.by_device) {
          work_.host_to_device = bytes_of(batch_.tokens, stage_.hidden_bytes);
        }
        return work_;
      case TaskKind::embed:
        work_.flop = static_cast<double>(batch_.tokens) * stage_.embed_flop;
        work_.weight_bytes = bytes_of(batch_.tokens, stage_.embed_bytes);
        return work_;
      case TaskKind::attention:
        return products(stage_.attention[layer()], batch_.tokens);
      case TaskKind::attend:
        return attend();
      case TaskKind::attention_output:
        work_ = products(stage_.output[layer()], batch_.tokens);
        if (shape_.lends(batch_)) {
          work_.host_to_device = bytes_of(batch_.in(Tier::host).tokens, stage_.query_bytes);
        }
        return work_;
      case TaskKind::mlp:
        return products(stage_.mlp[layer()], task_.gpu_batch < 0 ? all_tokens() : batch_.tokens);
      case TaskKind::logits:
        if (product_rows() > 0) work_ = products(stage_.head, product_rows());
        work_.host_to_device = bytes_of(product_rows(), stage_.sample_bytes);
        return work_;
      default:
        return work_;
    }
  }

  std::int64_t all_tokens() const {
    std::int64_t tokens = 0;
    for (const GpuBatchShape& batch : shape_.gpu_batches) tokens += batch.tokens;
    return tokens;
  }

  /// Of attention: half of it with keys, half with values.
  double flop_of(const CachedRows& rows) const {
    return (rows.pairs + rows.value_pairs) / 2 * stage_.pair_flop;
  }
  std::uint64_t bytes_read(const CachedRows& rows) const {
    return bytes_of(rows.context + rows.values, stage_.token_bytes / 2);
  }

  TaskWork attend() {
    for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
      const bool is_staged = tier != Tier::device;
      if (is_staged != (task_.part == 1) || (tier == Tier::host && shape_.host_attends)) continue;
      work_.flop += flop_of(seen(tier));
      work_.kv_bytes += bytes_read(seen(tier));
      work_.host_to_device += bytes_of(seen(tier).lean_values, stage_.token_bytes / 2);
    }
    return work_;
  }

  void copies() {
    switch (task_.kind) {
      case TaskKind::load_weights:
        work_.host_to_device = group().streamed;
        break;
      case TaskKind::fetch_cache:
        work_.host_to_device = bytes_of(fetched_pages(), stage_.page_bytes) -
                               bytes_of(seen(Tier::host).lean_pages, stage_.page_bytes / 2);
        break;
      case TaskKind::fetch_hidden:
        work_.host_to_device = bytes_of(rows_away(batch_), stage_.hidden_bytes);
        break;
      case TaskKind::store_hidden:
        work_.device_to_host = bytes_of(rows_away(batch_), stage_.hidden_bytes);
        break;
      case TaskKind::lend_rows:
        work_.device_to_host =
            bytes_of(batch_.in(Tier::host).tokens, stage_.query_bytes + stage_.vector_bytes);
        break;
      case TaskKind::store_cache:
        work_.device_to_host = bytes_of(stored_tokens(), stage_.vector_bytes);
        break;
      case TaskKind::take_results:
        work_.device_to_host = bytes_of(product_rows(), stage_.result_bytes) +
                               bytes_of(chunk_rows() - product_rows(), stage_.feature_bytes);
        break;
      case TaskKind::stage_hidden:
        work_.device_to_host = bytes_of(batch_.tokens, stage_.hidden_bytes);
        break;
      default:
        break;
    }
  }

  void others() {
    const std::int64_t hidden_on_disk = batch_.hidden[static_cast<std::size_t>(Tier::disk)];
    const std::uint64_t hidden_blocks =
        offload::round_to_blocks(bytes_of(hidden_on_disk, stage_.hidden_bytes));
    switch (task_.kind) {
      case TaskKind::read_weights:
        work_.disk_read = group().disk;
        break;
      case TaskKind::read_cache:
        work_.disk_read = bytes_of(seen(Tier::disk).full_pages, stage_.file_page_bytes);
        break;
      case TaskKind::write_cache:
        work_.disk_written = bytes_of(batch_.in(Tier::disk).filled_pages, stage_.file_page_bytes);
        break;
      case TaskKind::read_hidden:
        work_.disk_read = hidden_blocks;
        break;
      case TaskKind::write_hidden:
        work_.disk_written = hidden_blocks;
        break;
      case TaskKind::attend_on_host:
        work_.host_flop = flop_of(seen(Tier::host));
        work_.host_kv_bytes = bytes_read(seen(Tier::host));
        break;
      case TaskKind::receive:
        work_.received = bytes_of(batch_.tokens, stage_.hidden_bytes);
        break;
      case TaskKind::send:
        work_.sent = bytes_of(batch_.tokens, stage_.hidden_bytes);
        break;
      default:
        break;
    }
  }

  const Task& task_;
  const ScheduleShape& shape_;
  const StageWork& stage_;
  const GpuBatchShape& batch_;
  TaskWork work_;
};

}  // namespace

TaskWork& TaskWork::operator+=(const TaskWork& other) {
  disk_read += other.disk_read;
  disk_written += other.disk_written;
  host_to_device += other.host_to_device;
  device_to_host += other.device_to_host;
  sent += other.sent;
  received += other.received;
  flop += other.flop;
  weight_bytes += other.weight_bytes;
  kv_bytes += other.kv_bytes;
  host_flop += other.host_flop;
  host_kv_bytes += other.host_kv_bytes;
  return *this;
}

StageWork stage_work(const StageLayout& layout,
                     const std::vector<offload::GroupPlacement>& groups) {
  StageWork work;
  add_groups(layout, groups, work);
  const AttentionTraits& attention = layout.model.attention;
  const offload::KvShape shape = kv_shape(layout);
  const offload::KvLayout cache(shape, layout.config.policy);
  const std::size_t element = size_of(layout.compute_dtype);
  work.pair_flop = 4.0 * attention.query_width();
  work.token_bytes = 2 * static_cast<std::uint64_t>(attention.kv_heads) *
                     row_bytes_of(layout.cache_dtype(), attention.head_width);
  work.page_bytes = cache.page_bytes;
  work.file_page_bytes = cache.file_page_bytes;
  work.hidden_bytes = bytes_of(layout.model.hidden, element);
  work.query_bytes = bytes_of(attention.query_width(), element);
  work.vector_bytes = bytes_of(2 * std::int64_t{attention.kv_width()}, element);
  work.result_bytes = layout.device_samples ? sizeof(kernels::SampledRow)
                                            : bytes_of(layout.model.vocabulary, sizeof(float));
  work.feature_bytes = bytes_of(layout.model.feature_width(), element);
  work.sample_bytes = layout.device_samples ? sizeof(kernels::SampleRow) : 0;
  work.table_bytes = bytes_of(3 * std::int64_t{shape.gpu_batch_size}, sizeof(std::int32_t));
  work.table_row_bytes = bytes_of(cache.pages_per_slot, sizeof(std::int32_t));
  work.tables = cache.reaches.size();
  for (std::int32_t layer = 0; layer < shape.layers; ++layer) {
    work.windowed.push_back(cache.reaches[cache.reach_of(layer)].window > 0 ? 1 : 0);
  }
  return work;
}

TaskWork work_of(const Task& task, const ScheduleShape& shape, const StageWork& stage) {
  static const GpuBatchShape all;
  const GpuBatchShape& batch =
      task.gpu_batch < 0 ? all : shape.gpu_batches[static_cast<std::size_t>(task.gpu_batch)];
  return Pricer(task, shape, stage, batch).work();
}

TaskWork work_of(std::span<const Task> tasks, const ScheduleShape& shape, const StageWork& stage) {
  TaskWork sum;
  for (const Task& task : tasks) sum += work_of(task, shape, stage);
  return sum;
}

ComputeWork compute_work(const TaskWork& work) {
  return {work.flop, work.weight_bytes, work.kv_bytes, work.host_flop, work.host_kv_bytes};
}

}  // namespace sluice::stage
