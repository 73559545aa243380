#include "stage/stage_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "offload/disk/disk_engine.h"
#include "offload/kv/kv_pools.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

namespace {

/// The value of `key` in /proc/meminfo, in bytes; 0: not there.
std::uint64_t memory_information(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::uint64_t kilobytes = 0;
  std::string unit;
  while (file >> name >> kilobytes) {
    std::getline(file, unit);
    if (name == key + ":") return kilobytes * 1024;
  }
  return 0;
}

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

/// A cgroup's number ("max" or absent: no limit).
std::uint64_t cgroup_number(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::uint64_t bytes = 0;
  return file >> bytes ? bytes : kNoLimit;
}

/// The files of the two versions, and the keys of their memory.stat that are page cache.
struct CgroupNames {
  const char* limit;
  const char* usage;
  const char* cache[2];
};
constexpr CgroupNames kCgroupVersions[] = {
    {"memory.max", "memory.current", {"inactive_file", "active_file"}},
    {"memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file", "total_active_file"}},
};

/// Page cache that the cgroup is charged with and the kernel takes back when memory is wanted. (Of
/// a folder whose files were just read it may be most of what is used.)
std::uint64_t cgroup_cache(const std::filesystem::path& folder, const CgroupNames& names) {
  std::ifstream file(folder / "memory.stat");
  std::string key;
  std::uint64_t bytes = 0;
  std::uint64_t cache = 0;
  while (file >> key >> bytes) {
    if (key == names.cache[0] || key == names.cache[1]) cache += bytes;
  }
  return cache;
}

}  // namespace

std::int64_t StageLayout::logit_rows() const {
  // Enough for one new token of every sequence of a GPU batch, within reason: more rows (large
  // batches, log-probabilities of prompts) go through the head in several chunks.
  return std::clamp<std::int64_t>(batching.gpu_batch_size, 1, 64);
}

std::vector<offload::GroupSpec> layer_specs(const StageLayout& layout) {
  std::vector<offload::GroupSpec> specs;
  if (layout.first()) specs.push_back(embedding_group(layout.model));
  for (std::int32_t i = 0; i < layout.config.layers; ++i) {
    specs.push_back(layer_group(layout.model, layout.config.first_layer + i));
  }
  if (layout.last()) specs.push_back(head_group(layout.model));
  return specs;
}

offload::KvShape kv_shape(const StageLayout& layout) {
  offload::KvShape shape;
  shape.layers = layout.config.layers;
  shape.slots = layout.batching.slots(layout.stages);
  shape.tokens_per_slot = layout.batching.max_sequence_tokens;
  shape.gpu_batches = layout.batching.num_gpu_batches;
  shape.gpu_batch_size = layout.batching.gpu_batch_size;
  shape.tokens_per_gpu_batch = layout.batching.max_tokens_per_gpu_batch;
  shape.query_heads = layout.model.attention.query_heads;
  shape.kv_heads = layout.model.attention.kv_heads;
  shape.head_dim = layout.model.attention.head_width;
  shape.pool_pages = layout.cache_pages;
  shape.compute_dtype = layout.compute_dtype;
  return shape;
}

offload::ActivationShape activation_shape(const StageLayout& layout) {
  return {layout.batching.num_gpu_batches, layout.tokens(), layout.model.hidden,
          layout.compute_dtype};
}

namespace {

void plan_weights(const StageLayout& layout, const std::vector<offload::GroupPlacement>& layers,
                  offload::MemoryPlan& plan) {
  offload::WeightStream::plan(layers, {layout.config.policy.weight_slots, nullptr}, plan);
}

void plan_activations(const StageLayout& layout, offload::MemoryPlan& plan) {
  offload::ActivationStore::plan(activation_shape(layout), layout.config.policy.activations, plan);
  const WorkspaceBytes workspace = workspace_bytes(layout);
  plan.reserve(offload::Tier::device, "workspace", workspace.device);
  plan.reserve(offload::Tier::host, "workspace", workspace.host);
  if (layout.engine_bytes > 0) plan.reserve(offload::Tier::device, "kernels", layout.engine_bytes);
}

}  // namespace

std::uint64_t checksum_bytes(const offload::MemoryPlan& plan) {
  return offload::DiskEngine::checksum_bytes(plan.total(offload::Tier::disk));
}

void fit_cache(StageLayout& layout, const std::vector<offload::GroupPlacement>& layers) {
  offload::MemoryPlan beside;
  plan_weights(layout, layers, beside);
  plan_activations(layout, beside);
  offload::PerTier<std::uint64_t> room = {};
  for (std::size_t tier = 0; tier < room.size(); ++tier) {
    const std::uint64_t budget = layout.config.budgets.bytes[tier];
    room[tier] = budget == 0
                     ? kNoLimit
                     : budget - std::min(budget, beside.total(static_cast<offload::Tier>(tier)));
  }
  layout.cache_pages = {};
  // What the cache gets of the disk is not known yet: no more than there is, nor than it can use.
  offload::MemoryPlan whole = beside;
  offload::KvCache::plan(kv_shape(layout), layout.config.policy, whole);
  const std::uint64_t disk_budget =
      layout.config.budgets.bytes[static_cast<std::size_t>(offload::Tier::disk)];
  std::uint64_t sums = checksum_bytes(whole);
  if (disk_budget > 0) sums = std::min(sums, offload::DiskEngine::checksum_bytes(disk_budget));
  std::uint64_t& host = room[static_cast<std::size_t>(offload::Tier::host)];
  if (host != kNoLimit) host -= std::min(host, sums);
  layout.cache_pages = offload::fit_kv_pools(kv_shape(layout), layout.config.policy, room);
}

offload::MemoryPlan plan_memory(const StageLayout& layout,
                                const std::vector<offload::GroupPlacement>& layers) {
  offload::MemoryPlan plan;
  plan_weights(layout, layers, plan);
  offload::KvCache::plan(kv_shape(layout), layout.config.policy, plan);
  plan_activations(layout, plan);
  if (const std::uint64_t sums = checksum_bytes(plan); sums > 0) {
    plan.reserve(offload::Tier::host, "checksums", sums);
  }
  return plan;
}

std::uint64_t cgroup_room(const std::filesystem::path& folder) {
  std::uint64_t room = kNoLimit;
  for (const CgroupNames& names : kCgroupVersions) {
    const std::uint64_t limit = cgroup_number(folder / names.limit);
    const std::uint64_t usage = cgroup_number(folder / names.usage);
    if (limit == kNoLimit || usage == kNoLimit) continue;
    const std::uint64_t kept = usage - std::min(usage, cgroup_cache(folder, names));
    room = std::min(room, limit - std::min(limit, kept));
  }
  return room;
}

std::uint64_t available_memory() {
  const std::uint64_t available = memory_information("MemAvailable");
  if (available == 0) return 0;
  // Version 2, and version 1 with a folder for each kind of limit.
  const std::uint64_t room =
      std::min(cgroup_room("/sys/fs/cgroup"), cgroup_room("/sys/fs/cgroup/memory"));
  return std::max<std::uint64_t>(1, std::min(available, room));  // 0 would be "not known"
}

}  // namespace sluice::stage
