#include "launcher/planner/busy_seconds.h"

#include <algorithm>

#include "stage/pass_shape.h"

namespace sluice::launcher {

namespace {

using stage::Resource;
using stage::TaskKind;

/// All but those by resource.
constexpr double BusySeconds::*kParts[] = {
    &BusySeconds::device_attention, &BusySeconds::host_attention, &BusySeconds::cores,
    &BusySeconds::memory_bytes,     &BusySeconds::link,           &BusySeconds::disk};

BusySeconds busy_of(const std::vector<stage::Task>& tasks, const stage::ScheduleShape& shape,
                    const stage::StageWork& work, const CostModel& cost) {
  BusySeconds busy;
  for (const stage::Task& task : tasks) {
    if (task.resource == Resource::none) continue;
    const TaskCost of = cost.cost(task, shape, work);
    busy[task.resource] += of.seconds;
    busy.cores += of.core_seconds;
    busy.memory_bytes += of.memory_bytes;
    busy.link += of.link_seconds;
    busy.disk += of.disk_seconds;
    if (task.kind == TaskKind::attend && task.part == 0) busy.device_attention += of.seconds;
    if (task.kind == TaskKind::attend_on_host) busy.host_attention += of.seconds;
  }
  return busy;
}

}  // namespace

BusySeconds& BusySeconds::add(const BusySeconds& other, double times) {
  for (std::size_t i = 0; i < of.size(); ++i) of[i] += times * other.of[i];
  for (const auto part : kParts) this->*part += times * other.*part;
  return *this;
}

double BusyRow::of(const BusySeconds& busy) const {
  double seconds = 0;
  for (std::size_t i = 0; i < busy.of.size(); ++i) seconds += factors.of[i] * busy.of[i];
  for (const auto part : kParts) seconds += factors.*part * busy.*part;
  return seconds;
}

bool BusyRow::counts(const BusySeconds& busy) const { return shared || busy[resource] > 0; }

namespace {

/// Resources one after the other, each as long as it takes beside computing.
void add_resources(const CostModel& cost, std::vector<BusyRow>& rows) {
  for (const Resource resource :
       {Resource::disk, Resource::host_to_device, Resource::device_to_host, Resource::host_compute,
        Resource::send, Resource::receive, Resource::outbox}) {
    BusyRow& row = rows.emplace_back();
    row.name = stage::name_of(resource);
    row.resource = resource;
    row.factors[resource] = 1;
    row.factors[Resource::compute] = cost.slowdown(resource, Resource::compute) - 1;
  }
}

void add_compute(const CostModel& cost, std::vector<BusyRow>& rows) {
  BusyRow row;
  row.name = stage::name_of(Resource::compute);
  row.resource = Resource::compute;
  row.factors[Resource::compute] = 1;
  for (const Resource other : {Resource::disk, Resource::host_to_device, Resource::device_to_host,
                               Resource::host_compute}) {
    row.factors[other] = cost.slowdown(Resource::compute, other) - 1;
  }
  rows.push_back(row);
  // The rest of a layer waits for the host's attention; only the device's attention runs beside it.
  row.name = "compute and host attention";
  row.resource = Resource::host_compute;
  row.factors[Resource::host_compute] = 0;
  row.factors.device_attention = -1;
  row.factors.host_attention = 1;
  rows.push_back(row);
}

/// What the ranks of a host take of it together.
void add_shared(const CostModel& cost, std::int32_t ranks, std::vector<BusyRow>& rows) {
  const auto add = [&rows](Resource resource, const char* name, double BusySeconds::*part,
                           double factor) {
    BusyRow& row = rows.emplace_back();
    row.resource = resource;
    row.name = name;
    row.shared = true;
    row.factors.*part = factor;
  };
  if (cost.host_cores() > 0) {
    add(Resource::host_compute, "host cores", &BusySeconds::cores, ranks / cost.host_cores());
  }
  if (cost.host_memory_rate() > 0) {
    add(Resource::host_compute, "host memory", &BusySeconds::memory_bytes,
        ranks / cost.host_memory_rate());
  }
  if (ranks == 1) return;
  add(Resource::host_to_device, "shared link", &BusySeconds::link, ranks);
  add(Resource::disk, "shared disk", &BusySeconds::disk, ranks);
}

}  // namespace

std::vector<BusyRow> busy_rows(const CostModel& cost, std::int32_t ranks_on_host) {
  std::vector<BusyRow> rows;
  add_resources(cost, rows);
  add_compute(cost, rows);
  add_shared(cost, ranks_on_host, rows);
  return rows;
}

PassSeconds pass_seconds(const BusySeconds& busy, const std::vector<BusyRow>& rows) {
  PassSeconds longest;
  for (const BusyRow& row : rows) {
    const double seconds = row.counts(busy) ? row.of(busy) : 0;
    if (seconds > longest.seconds) longest = {seconds, row.name};
  }
  return longest;
}

std::int32_t prefill_tokens(const stage::Batching& batching, const PassMix& mix) {
  const std::int64_t all = std::int64_t{batching.gpu_batch_size} * mix.prompt_tokens;
  return static_cast<std::int32_t>(std::min<std::int64_t>(all, batching.max_tokens_per_gpu_batch));
}

std::int32_t prefill_passes(const stage::Batching& batching, const PassMix& mix) {
  const std::int64_t all = std::int64_t{batching.gpu_batch_size} * mix.prompt_tokens;
  return static_cast<std::int32_t>((all - 1) / prefill_tokens(batching, mix) + 1);
}

stage::Pass prefill_pass(const stage::StageLayout& layout, const PassMix& mix) {
  const stage::Batching& batching = layout.batching;
  stage::Pass pass;
  for (std::int32_t g = 0; g < batching.num_gpu_batches; ++g) {
    std::int32_t left = prefill_tokens(batching, mix);
    pass.batch_tokens.push_back(left);
    for (std::int32_t i = 0; i < batching.gpu_batch_size && left > 0; ++i) {
      stage::PassRow& row = pass.rows.emplace_back();
      row.slot = g * batching.gpu_batch_size + i;
      row.new_tokens = std::min(left, mix.prompt_tokens);
      row.sample = row.new_tokens == mix.prompt_tokens;
      if (i == 0) row.position = (mix.prompt_tokens - row.new_tokens) / 2;
      row.total = mix.prompt_tokens;
      row.sampling.answer_begin = mix.prompt_tokens;
      row.gpu_batch = g;
      left -= row.new_tokens;
    }
  }
  return pass;
}

StageBusy stage_busy(const stage::StageLayout& layout,
                     const std::vector<offload::GroupPlacement>& groups, const CostModel& cost,
                     const PassMix& mix) {
  const stage::Batching& batching = layout.batching;
  const std::vector<offload::Tier> tiers = offload::cache_tiers(
      layout.config.policy.cache, batching.num_gpu_batches * batching.gpu_batch_size);
  const auto tier_of = [&tiers](std::int32_t slot) {
    return tiers[static_cast<std::size_t>(slot)];
  };
  const stage::StageWork work = stage::stage_work(layout, groups);
  stage::ScheduleShape shape = stage::schedule_shape(layout, groups);
  std::vector<stage::Task> tasks;
  StageBusy busy;
  stage::set_pass(shape, layout, prefill_pass(layout, mix), tier_of);
  stage::build_schedule(shape, tasks);
  busy.prefill = busy_of(tasks, shape, work, cost);
  stage::set_pass(shape, layout, stage::decode_pass(layout, mix.context), tier_of);
  stage::build_schedule(shape, tasks);
  busy.decode = busy_of(tasks, shape, work, cost);
  return busy;
}

}  // namespace sluice::launcher
