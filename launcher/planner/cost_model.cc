#include "launcher/planner/cost_model.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace sluice::launcher {

namespace {

using stage::Resource;
using stage::Task;
using stage::TaskKind;

/// What answering a row costs the host beside its logits, as if it read so many bytes.
constexpr double kSampleBytes = 50e3;
/// The disk engine reads weights in pieces of about this size.
constexpr std::uint64_t kWeightRequest = 1U << 20U;

/// Of the dtype, or of the one that is most alike.
template <typename T>
const T* nearest(const std::map<DType, T>& figures, DType wanted) {
  constexpr DType kOrder[] = {DType::f16, DType::bf16, DType::f32, DType::q8, DType::q4};
  if (const auto found = figures.find(wanted); found != figures.end()) return &found->second;
  for (const bool alike : {true, false}) {
    for (const DType other : kOrder) {
      if (alike && is_quantized(other) != is_quantized(wanted)) continue;
      if (const auto found = figures.find(other); found != figures.end()) return &found->second;
    }
  }
  return nullptr;
}

double nearest_rate(const std::map<DType, Figure>& figures, DType wanted) {
  const Figure* figure = nearest(figures, wanted);
  return figure != nullptr ? figure->value : 0;
}

/// What no figure says costs nothing.
double seconds_at(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

double number(std::uint64_t value) { return static_cast<double>(value); }

/// Operations (kernels/ops.h) of a task; a norm, a product and a residual each are one.
double operations_of(TaskKind kind) {
  switch (kind) {
    case TaskKind::attention:
      return 5;
    case TaskKind::mlp:
    case TaskKind::logits:
      return 3;
    case TaskKind::embed:
      return 2;
    default:
      return 1;
  }
}

/// A task of the compute lane that begins when another lane has brought something. (Those of other
/// lanes all wait for the compute lane, or it for them.)
bool waits_for_other_lanes(const Task& task, const stage::ScheduleShape& shape) {
  switch (task.kind) {
    case TaskKind::take_hidden:
      return true;
    case TaskKind::attend:
      return task.part == 1;
    case TaskKind::attention_output:
      return shape.lends(batch_of(task, shape));
    case TaskKind::embed:
    case TaskKind::attention:
    case TaskKind::logits:  // the first that reads a group of weights
      return task.gpu_batch == 0 && task.part == 0 &&
             shape.groups[static_cast<std::size_t>(task.group)].streamed;
    default:
      return false;
  }
}

/// Bytes of activations that a task reads and writes beside its products, for each row.
double row_bytes_of(TaskKind kind, const stage::StageWork& work) {
  const double hidden = number(work.hidden_bytes);
  switch (kind) {
    case TaskKind::embed:
    case TaskKind::take_hidden:
      return 2 * hidden;
    case TaskKind::attention:
      return 3 * hidden + number(work.query_bytes + 2 * work.vector_bytes);
    case TaskKind::attention_output:
      return 2 * hidden + number(work.query_bytes);
    case TaskKind::mlp:  // most models' MLP is four times as wide
      return 12 * hidden;
    case TaskKind::logits:
      return 2 * hidden + number(work.result_bytes);
    default:
      return 0;
  }
}

}  // namespace

CostModel::CostModel(const Machine& machine, const StagePlace& place, DType storage, DType cache,
                     const stage::RateLimits& limits)
    : machine_(machine), place_(place), limits_(limits) {
  const double cores = host_cores();
  threads_ = place.threads > 0
                 ? place.threads
                 : std::max(1.0, std::floor(cores / std::max(1, place.ranks_on_host)));
  host_share_ = std::min(1.0, threads_ / cores);
  if (is_cpu()) {
    const double measured = machine.device.threads > 0 ? machine.device.threads : cores;
    device_share_ = std::min(1.0, threads_ / measured);
  }
  products_ = nearest(machine.device.products, storage);
  attention_bytes_ = nearest_rate(machine.device.decode_attention, cache) * device_share_;
  attention_flop_ = nearest_rate(machine.device.prefill_attention, cache) * device_share_;
  host_attention_bytes_ = nearest_rate(machine.host.decode_attention, cache) * host_share_;
  host_attention_flop_ = nearest_rate(machine.host.prefill_attention, cache) * host_share_;
  if (is_cpu() && host_attention_bytes_ == 0) host_attention_bytes_ = attention_bytes_;
  if (is_cpu() && host_attention_flop_ == 0) host_attention_flop_ = attention_flop_;
}

double CostModel::host_cores() const { return std::max(1, machine_.host.cores); }
double CostModel::host_memory_rate() const { return machine_.host.memory_read.value; }

TaskCost CostModel::cost(const Task& task, const stage::ScheduleShape& shape,
                         const stage::StageWork& work) const {
  if (task.resource == Resource::none) return {};
  if (task.resource == Resource::compute) return compute(task, shape, work);
  const stage::TaskWork moved = stage::work_of(task, shape, work);
  switch (task.resource) {
    case Resource::host_to_device:
      return copy(moved.host_to_device, true);
    case Resource::device_to_host:
      return copy(moved.device_to_host, false);
    case Resource::disk: {
      const bool is_cache = task.kind == TaskKind::read_cache || task.kind == TaskKind::write_cache;
      return disk(moved.disk_read, moved.disk_written,
                  is_cache ? work.file_page_bytes : kWeightRequest);
    }
    case Resource::host_compute:
      return task.kind == TaskKind::append_cache ? append(task, shape, work)
                                                 : attend_on_host(moved);
    case Resource::send:
      return message(moved.sent);
    case Resource::outbox: {
      const std::int64_t left = batch_of(task, shape).logits - task.part * shape.logit_rows;
      return sample(static_cast<double>(std::min(shape.logit_rows, left)), work);
    }
    default:
      return {};
  }
}

double CostModel::product_seconds(double flop, double rows) const {
  if (products_ == nullptr || flop <= 0) return 0;
  return seconds_at(flop, products_->at(std::max(rows, 1.0)) * device_share_);
}

TaskCost CostModel::compute(const Task& task, const stage::ScheduleShape& shape,
                            const stage::StageWork& work) const {
  const stage::TaskWork done = stage::work_of(task, shape, work);
  double rows = 0;
  for (const stage::GpuBatchShape& batch : shape.gpu_batches) {
    rows += static_cast<double>(batch.tokens);
  }
  if (task.gpu_batch >= 0) rows = static_cast<double>(batch_of(task, shape).tokens);
  if (task.kind == TaskKind::logits) {
    const std::int64_t left = batch_of(task, shape).logits - task.part * shape.logit_rows;
    rows = static_cast<double>(std::min(shape.logit_rows, left));
  }
  TaskCost cost;
  if (task.kind == TaskKind::attend) {
    cost.seconds = std::max(seconds_at(number(done.kv_bytes), attention_bytes_),
                            seconds_at(done.flop, attention_flop_));
  } else {
    cost.seconds = product_seconds(done.flop, rows);
  }
  const DeviceRates& device = machine_.device;
  double bytes = rows * row_bytes_of(task.kind, work);
  if (task.kind == TaskKind::embed) bytes += number(done.weight_bytes);
  cost.seconds += seconds_at(bytes, device.memory_read.value * device_share_) +
                  seconds_at(number(done.host_to_device), link_rate(true)) +
                  operations_of(task.kind) * device.operation_seconds.value;
  if (waits_for_other_lanes(task, shape)) cost.seconds += device.task_seconds.value;
  cost.least_seconds = cost.seconds;
  if (is_cpu()) {
    cost.core_seconds = cost.seconds * threads_;
    cost.memory_bytes = number(done.weight_bytes + done.kv_bytes);
  }
  return cost;
}

double CostModel::link_rate(bool to_device) const {
  const LinkRates& link = to_device ? machine_.host_to_device : machine_.device_to_host;
  return !place_.pinned && link.pageable.known() ? link.pageable.value : link.alone.value;
}

/// Cores that a CPU's copy lane takes from the computing, as its product_share shows it.
double CostModel::link_cores(bool to_device) const {
  if (!is_cpu()) return 0;
  const LinkRates& link = to_device ? machine_.host_to_device : machine_.device_to_host;
  if (!link.product_share.known()) return 1;
  const double threads = machine_.device.threads > 0 ? machine_.device.threads : host_cores();
  return threads * (1 / std::min(link.product_share.value, 1.0) - 1);
}

TaskCost CostModel::copy(std::uint64_t bytes, bool to_device) const {
  const double limit =
      1e9 * (to_device ? limits_.host_to_device_gbps : limits_.device_to_host_gbps);
  TaskCost cost;
  const double moving = seconds_at(number(bytes), link_rate(to_device));
  cost.least_seconds = moving + machine_.device.task_seconds.value;
  cost.seconds = std::max(cost.least_seconds, seconds_at(number(bytes), limit));
  cost.core_seconds = moving * link_cores(to_device);
  cost.memory_bytes = number(bytes) * (is_cpu() ? 2 : 1);
  // A CPU's copy lanes are threads, which share its cores.
  if (machine_.shares_link && !is_cpu()) cost.link_seconds = moving;
  return cost;
}

TaskCost CostModel::disk(std::uint64_t read, std::uint64_t written, std::uint64_t request) const {
  const auto size = static_cast<double>(std::max<std::uint64_t>(request, 1));
  TaskCost cost;
  cost.disk_seconds = seconds_at(number(read), machine_.disk.read.at(size)) +
                      seconds_at(number(written), machine_.disk.write.at(size));
  cost.least_seconds = cost.disk_seconds;
  cost.seconds =
      std::max({cost.least_seconds, seconds_at(number(read), 1e9 * limits_.disk_read_gbps),
                seconds_at(number(written), 1e9 * limits_.disk_write_gbps)});
  cost.memory_bytes = number(read + written);
  if (is_cpu() && machine_.disk.product_share.known()) {
    const double share = std::min(machine_.disk.product_share.value, 1.0);
    const double threads = machine_.device.threads > 0 ? machine_.device.threads : host_cores();
    cost.core_seconds = cost.disk_seconds * threads * (1 / share - 1);
  }
  return cost;
}

TaskCost CostModel::attend_on_host(const stage::TaskWork& work) const {
  TaskCost cost;
  cost.seconds = std::max(seconds_at(number(work.host_kv_bytes), host_attention_bytes_),
                          seconds_at(work.host_flop, host_attention_flop_)) +
                 machine_.device.task_seconds.value + machine_.device.operation_seconds.value;
  cost.least_seconds = cost.seconds;
  cost.core_seconds = cost.seconds * threads_;
  cost.memory_bytes = number(work.host_kv_bytes);
  return cost;
}

/// New keys and values into their pages: one thread copies.
TaskCost CostModel::append(const Task& task, const stage::ScheduleShape& shape,
                           const stage::StageWork& work) const {
  const stage::GpuBatchShape& batch = batch_of(task, shape);
  const std::int64_t tokens =
      batch.in(task.part == 0 ? offload::Tier::host : offload::Tier::disk).tokens;
  TaskCost cost;
  const double bytes = static_cast<double>(tokens) * number(work.vector_bytes);
  cost.seconds =
      seconds_at(bytes, machine_.host.memory_copy.value) + machine_.device.task_seconds.value;
  cost.least_seconds = cost.seconds;
  cost.core_seconds = cost.seconds;
  cost.memory_bytes = 2 * bytes;
  return cost;
}

TaskCost CostModel::message(std::uint64_t bytes) const {
  const NetworkRates* network =
      place_.next_on_same_host ? &machine_.within_host : &machine_.between_hosts;
  if (!network->bandwidth.known()) {
    network = place_.next_on_same_host ? &machine_.between_hosts : &machine_.within_host;
  }
  TaskCost cost;
  cost.seconds = network->latency.value + seconds_at(number(bytes), network->bandwidth.value);
  cost.least_seconds = cost.seconds;
  if (place_.next_on_same_host) cost.memory_bytes = 2 * number(bytes);
  return cost;
}

TaskCost CostModel::sample(double rows, const stage::StageWork& work) const {
  TaskCost cost;
  // One thread reads them.
  const double rate = machine_.host.memory_read.value / host_cores();
  cost.seconds = rows * seconds_at(number(work.result_bytes) + kSampleBytes, rate);
  cost.least_seconds = cost.seconds;
  cost.core_seconds = cost.seconds;
  return cost;
}

double CostModel::slowdown(Resource resource, Resource other) const {
  const auto is_link = [](Resource one) {
    return one == Resource::host_to_device || one == Resource::device_to_host;
  };
  const auto link_of = [this](Resource one) -> const LinkRates& {
    return one == Resource::host_to_device ? machine_.host_to_device : machine_.device_to_host;
  };
  if (is_link(resource) && other == Resource::compute) {
    const LinkRates& link = link_of(resource);
    if (!link.computing.known() || !link.alone.known()) return 1;
    return std::max(1.0, link.alone.value / link.computing.value);
  }
  if (resource != Resource::compute) return 1;
  const Figure share = is_link(other)            ? link_of(other).product_share
                       : other == Resource::disk ? machine_.disk.product_share
                                                 : Figure();
  return share.known() ? 1 / std::min(share.value, 1.0) : 1;
}

}  // namespace sluice::launcher
