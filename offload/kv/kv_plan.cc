#include "offload/kv/kv_plan.h"

#include "offload/kv/kv_cache.h"

namespace sluice::offload {

namespace {

std::byte* take(Arena& arena, std::uint64_t bytes, const char* purpose) {
  return bytes == 0 ? nullptr : arena.take(bytes, purpose);
}

}  // namespace

KvMemory take_memory(const KvLayout& layout, Arena& device, Arena& host, Arena& control) {
  const KvMemory sizes(layout, {});
  KvMemory::Blocks blocks;
  blocks.device_cache = take(device, sizes.device_cache_bytes, "KV cache");
  blocks.device_staging = take(device, sizes.device_staging_bytes, "KV staging");
  blocks.host_cache = take(host, sizes.host_cache_bytes, "KV cache");
  blocks.host_staging = take(host, sizes.host_staging_bytes, "KV staging");
  blocks.control = take(control, sizes.control_bytes, kControl);
  return KvMemory(layout, blocks);
}

void KvCache::plan(const KvShape& shape, const Policy& policy, MemoryPlan& plan) {
  const KvLayout layout(shape, policy);
  const KvMemory sizes(layout, {});
  const auto reserve = [&plan](Tier tier, const char* purpose, std::uint64_t bytes) {
    if (bytes > 0) plan.reserve(tier, purpose, bytes);
  };
  reserve(Tier::device, "KV cache", sizes.device_cache_bytes);
  reserve(Tier::host, "KV cache", sizes.host_cache_bytes);
  reserve(Tier::disk, "KV cache", layout.file_bytes());
  reserve(Tier::device, "KV staging", sizes.device_staging_bytes);
  reserve(Tier::host, "KV staging", sizes.host_staging_bytes);
  reserve(Tier::host, kControl, sizes.control_bytes);
  const auto prefixes = static_cast<std::uint64_t>(layout.most_prefixes());
  reserve(Tier::host, kPrefixes, prefixes * shape.prefix_bytes_per_page);
}

}  // namespace sluice::offload
