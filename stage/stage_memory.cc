#include "stage/stage_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

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

/// A cgroup's number ("max" or absent: no limit).
std::uint64_t cgroup_number(const char* path) {
  std::ifstream file(path);
  std::uint64_t bytes = 0;
  return file >> bytes ? bytes : std::numeric_limits<std::uint64_t>::max();
}

std::uint64_t cgroup_room() {
  constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();
  struct Files {
    const char* limit;
    const char* usage;
  };
  constexpr Files kVersions[] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
       "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
  };
  std::uint64_t room = kNone;
  for (const Files& files : kVersions) {
    const std::uint64_t limit = cgroup_number(files.limit);
    const std::uint64_t usage = cgroup_number(files.usage);
    if (limit == kNone || usage == kNone) continue;
    room = std::min(room, limit > usage ? limit - usage : 0);
  }
  return room;
}

}  // namespace

std::int64_t StageLayout::logit_rows() const {
  // Enough for one new token of every sequence of a GPU batch, within reason: more rows (large
  // batches, log-probabilities of prompts) go through the head in several chunks.
  return std::clamp<std::int64_t>(batching.gpu_batch_size, 1, 64);
}

std::vector<offload::LayerSpec> layer_specs(const StageLayout& layout) {
  std::vector<offload::LayerSpec> specs;
  if (layout.first()) specs.push_back(embedding_spec(layout.model));
  for (std::int32_t i = 0; i < layout.config.layers; ++i) {
    specs.push_back(layer_spec(layout.model, layout.config.first_layer + i));
  }
  if (layout.last()) specs.push_back(head_spec(layout.model, layout.separate_head));
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
  shape.heads = layout.model.heads;
  shape.head_dim = layout.model.head_dim();
  shape.compute_dtype = layout.compute_dtype;
  return shape;
}

offload::ActivationShape activation_shape(const StageLayout& layout) {
  return {layout.batching.num_gpu_batches, layout.tokens(), layout.model.hidden,
          layout.compute_dtype};
}

offload::MemoryPlan plan_memory(const StageLayout& layout,
                                const std::vector<offload::LayerPlacement>& layers) {
  offload::MemoryPlan plan;
  offload::WeightStream::plan(layers, {layout.config.policy.weight_slots, nullptr}, plan);
  offload::KvCache::plan(kv_shape(layout), layout.config.policy, plan);
  offload::ActivationStore::plan(activation_shape(layout), layout.config.policy.activations, plan);
  const WorkspaceBytes workspace = workspace_bytes(layout);
  plan.reserve(offload::Tier::device, "workspace", workspace.device);
  plan.reserve(offload::Tier::host, "workspace", workspace.host);
  return plan;
}

std::uint64_t available_memory(int ranks_on_host) {
  const std::uint64_t available = memory_information("MemAvailable");
  if (available == 0) return 0;
  return std::min(available, cgroup_room()) / static_cast<std::uint64_t>(ranks_on_host);
}

}  // namespace sluice::stage
