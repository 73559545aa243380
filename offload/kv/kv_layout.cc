#include "offload/kv/kv_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/device/error.h"
#include "offload/kv/kv_tables.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kFileAlignment = 4096;  // O_DIRECT reads straight into staging
constexpr std::uint64_t kBlockAlignment = 64;   // what an arena gives by default

[[noreturn]] void throw_too_large() {
  throw CapacityError(
      "KV cache: its size does not fit 63 bits; lower the number of slots or max_sequence_tokens");
}

std::uint64_t product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result) || result > std::numeric_limits<std::int64_t>::max()) {
    throw_too_large();
  }
  return result;
}

std::uint64_t sum(std::uint64_t a, std::uint64_t b) {
  std::uint64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) throw_too_large();
  return result;
}

std::uint64_t rounded_up(std::uint64_t bytes, std::uint64_t alignment) {
  return sum(bytes, alignment - 1) / alignment * alignment;
}

std::uint64_t count_of(std::int32_t value) { return static_cast<std::uint64_t>(value); }

/// Tokens of the history that layers of this window keep in sight.
std::int64_t history_in_sight(std::int32_t window, std::int32_t page_tokens) {
  return std::max(window - 1, page_tokens);
}

}  // namespace

std::int32_t first_page_in_sight(std::int32_t history, std::int32_t window,
                                 std::int32_t page_tokens) {
  if (window == 0) return 0;
  const std::int64_t first = history - history_in_sight(window, page_tokens);
  return static_cast<std::int32_t>(std::max<std::int64_t>(first, 0) / page_tokens);
}

std::byte* KvCarver::take(std::uint64_t count, std::uint64_t bytes, std::uint64_t alignment) {
  const std::uint64_t size = rounded_up(product(count, bytes), kBlockAlignment);
  if (size == 0) return nullptr;
  std::byte* start = base_ == nullptr ? nullptr : base_ + used_;
  std::uint64_t reserved = size;
  if (alignment > kBlockAlignment) {
    // A fixed allowance, whatever the block's address is: the plan has no address.
    reserved = rounded_up(size, alignment) + alignment;
    if (start != nullptr) {
      const auto address = reinterpret_cast<std::uintptr_t>(start);
      start += (alignment - address % alignment) % alignment;
    }
  }
  used_ = sum(used_, reserved);
  if (used_ > std::numeric_limits<std::int64_t>::max()) throw_too_large();
  return start;
}

KvLayout::KvLayout(const KvShape& of_shape, const Policy& policy)
    : shape(of_shape),
      cache_dtype(policy.cache_dtype_for(of_shape.compute_dtype)),
      kept_millionths(policy.kept_millionths()) {
  check_shape(policy);
  place_slots(policy.cache);
  host_attends = policy.cpu_cache_compute && slots_in(Tier::host) > 0;
  fetches_keys_only =
      kept_millionths > 0 && policy.pin_weight && !host_attends && slots_in(Tier::host) > 0;
  find_reaches();
  size_pools();
  measure();
  count_pages();
}

void KvLayout::check_shape(const Policy& policy) const {
  const std::pair<const char*, std::int32_t> values[] = {
      {"layers", shape.layers},
      {"slots", shape.slots},
      {"tokens_per_slot", shape.tokens_per_slot},
      {"gpu_batches", shape.gpu_batches},
      {"gpu_batch_size", shape.gpu_batch_size},
      {"tokens_per_gpu_batch", shape.tokens_per_gpu_batch},
      {"query_heads", shape.query_heads},
      {"kv_heads", shape.kv_heads},
      {"head_dim", shape.head_dim},
      {"page_tokens", shape.page_tokens}};
  for (const auto& [name, value] : values) {
    if (value < 1)
      throw ConfigError(fmt::format("KV cache: {} is {}; it must be >= 1", name, value));
  }
  if (shape.query_heads % shape.kv_heads != 0) {
    throw ConfigError(
        fmt::format("KV cache: query_heads is {}; it must be a multiple of kv_heads, {}",
                    shape.query_heads, shape.kv_heads));
  }
  const bool windows_fit =
      shape.windows.empty() || shape.windows.size() == static_cast<std::size_t>(shape.layers);
  if (!windows_fit || std::ranges::any_of(shape.windows, [](auto w) { return w < 0; })) {
    throw ConfigError(
        fmt::format("KV cache: windows are a list of {}, for {} layers; it must have one for each, "
                    "none below 0",
                    shape.windows.size(), shape.layers));
  }
  if (cache_dtype == DType::i32 || shape.compute_dtype == DType::i32) {
    throw ConfigError(
        "KV cache: its dtype is i32; use f32, f16, bf16, q8 or q4 (policy.cache_dtype)");
  }
  if (kept_millionths > 0 && is_quantized(cache_dtype)) {
    throw ConfigError("KV cache: policy.attn_sparsity cannot be below 1 with a compressed cache");
  }
  const std::int64_t scores = (std::int64_t{shape.query_heads} / shape.kv_heads + 2) *
                              (shape.tokens_per_slot + std::int64_t{2 * 64});
  if (kept_millionths > 0 && scores > kernels::kMostSparseScores) {
    throw ConfigError(fmt::format(
        "policy.attn_sparsity: sequences of {} tokens with {} query heads for a KV head are too "
        "long for sparse attention; lower max_sequence_tokens, or leave attn_sparsity at 1",
        shape.tokens_per_slot, shape.query_heads / shape.kv_heads));
  }
  const double shares = policy.cache.device + policy.cache.host + policy.cache.disk;
  if (!(shares > 99.999 && shares < 100.001)) {
    throw ConfigError(fmt::format(
        "policy.cache: the shares of device, host and disk add up to {}; make it 100", shares));
  }
}

void KvLayout::place_slots(const Shares& shares) {
  tiers = cache_tiers(shares, shape.slots);
  places.reserve(tiers.size());
  for (const Tier tier : tiers) places.push_back(slots[static_cast<std::size_t>(tier)]++);
}

/// A window as long as the longest sequence is none. Windows of several sizes are kept like the
/// widest of them.
void KvLayout::find_reaches() {
  KvReach all;
  KvReach windowed;
  const auto bounds = [this](std::int32_t window) {
    return window > 0 && window < shape.tokens_per_slot;
  };
  for (const std::int32_t window : shape.windows) {
    if (!bounds(window)) continue;
    windowed.window = std::max(windowed.window, window);
    ++windowed.layers;
  }
  all.layers = shape.layers - windowed.layers;
  if (all.layers > 0) reaches.push_back(all);
  if (windowed.layers > 0) reaches.push_back(windowed);
  if (reaches.size() == 1) return;
  std::int32_t numbers[2] = {};
  for (const std::int32_t window : shape.windows) {
    const std::size_t reach = bounds(window) ? 1 : 0;
    places_in_reach_.emplace_back(reach, numbers[reach]++);
  }
}

void KvLayout::size_pools() {
  pages_per_slot = pages_for(shape.tokens_per_slot);
  for (KvReach& reach : reaches) {
    reach.pages_per_slot = pages_per_slot;
    if (reach.window == 0) continue;
    // In a pass, tokens in sight and new ones are neighbours that begin anywhere in a page.
    const std::int64_t tokens =
        history_in_sight(reach.window, shape.page_tokens) + shape.tokens_per_gpu_batch;
    const std::int64_t pages = (tokens + shape.page_tokens - 2) / shape.page_tokens + 1;
    reach.pages_per_slot = static_cast<std::int32_t>(std::min<std::int64_t>(pages, pages_per_slot));
  }
  const std::int32_t longest = farthest().pages_per_slot;
  const std::int32_t usual = shape.usual_tokens_per_slot > 0
                                 ? std::min(pages_for(shape.usual_tokens_per_slot), longest)
                                 : longest;
  std::uint64_t pages = 0;
  for (std::size_t tier = 0; tier < kTierCount; ++tier) {
    const std::uint64_t most = product(count_of(slots[tier]), count_of(longest));
    const std::int32_t asked = shape.pool_pages[tier];
    if (asked < 0 || (asked > 0 && most > 0 && asked < longest)) {
      throw ConfigError(fmt::format(
          "KV cache: the {} tier's pool has {} pages but a sequence of {} tokens needs {}",
          name_of(static_cast<Tier>(tier)), asked, shape.tokens_per_slot, longest));
    }
    const std::uint64_t unasked =
        most == 0 ? 0
                  : std::max(product(count_of(slots[tier]), count_of(usual)), count_of(longest));
    const std::uint64_t size = asked == 0 ? unasked : std::min(most, count_of(asked));
    pages += size;
    if (pages > std::numeric_limits<std::int32_t>::max()) {
      throw CapacityError(fmt::format(
          "KV cache: {} pages of a layer cannot be numbered in 32 bits; use larger pages", pages));
    }
    // A sequence keeps no more pages in a later reach than in the first.
    for (KvReach& reach : reaches) {
      const std::uint64_t kept = product(count_of(slots[tier]), count_of(reach.pages_per_slot));
      reach.pool[tier] = static_cast<std::int32_t>(std::min(size, kept));
    }
  }
}

/// After measure(): every offset must fit.
void KvLayout::count_pages() {
  PerTier<std::uint64_t> before = {};
  for (KvReach& reach : reaches) {
    for (std::size_t tier = 0; tier < kTierCount; ++tier) {
      reach.before[tier] = static_cast<std::int64_t>(before[tier]);
      before[tier] = sum(before[tier], product(count_of(reach.layers), count_of(reach.pool[tier])));
    }
  }
  product(std::accumulate(before.begin(), before.end(), std::uint64_t{0}, sum), file_page_bytes);
}

std::int32_t KvLayout::most_prefixes() const {
  const PerTier<std::int32_t>& pool = farthest().pool;
  return shares_prefixes() ? std::accumulate(pool.begin(), pool.end(), 0) : 0;
}

std::int64_t KvLayout::pages_in(Tier tier) const {
  const KvReach& last = reaches.back();
  const auto index = static_cast<std::size_t>(tier);
  return last.before[index] + std::int64_t{last.layers} * last.pool[index];
}

std::int64_t KvLayout::page_index(std::int32_t layer, std::int32_t page, Tier tier) const {
  const auto [number, place] = places_in_reach_.empty()
                                   ? std::pair<std::size_t, std::int32_t>(0, layer)
                                   : places_in_reach_[static_cast<std::size_t>(layer)];
  const KvReach& reach = reaches[number];
  const auto index = static_cast<std::size_t>(tier);
  return reach.before[index] + std::int64_t{place} * reach.pool[index] + page;
}

void KvLayout::measure() {
  const std::uint64_t head_bytes = product(count_of(shape.head_dim), size_of(shape.compute_dtype));
  query_row_bytes = product(count_of(shape.query_heads), head_bytes);
  kv_row_bytes = product(count_of(shape.kv_heads), head_bytes);
  page_bytes = product(product(count_of(shape.kv_heads), count_of(shape.page_tokens)),
                       2 * row_bytes_of(cache_dtype, shape.head_dim));
  file_page_bytes = rounded_up(page_bytes, kFileAlignment);

  const std::int32_t streamed = slots_in(Tier::disk) + (host_attends ? 0 : slots_in(Tier::host));
  streamed_sequences = std::min(shape.gpu_batch_size, streamed);
  disk_sequences = std::min(shape.gpu_batch_size, slots_in(Tier::disk));
  const auto most_pages = [this](std::int32_t sequences, std::int32_t in_pools) {
    return static_cast<std::int32_t>(
        std::min(std::int64_t{sequences} * farthest().pages_per_slot, std::int64_t{in_pools}));
  };
  streamed_pages = most_pages(streamed_sequences,
                              pool_of(Tier::disk) + (host_attends ? 0 : pool_of(Tier::host)));
  disk_pages = most_pages(disk_sequences, pool_of(Tier::disk));
  // n new tokens fill at most floor((n - 1) / page_tokens) + 1 pages (the first may have begun in
  // an earlier pass), and no sequence has more than its pages.
  const std::int64_t by_tokens = shape.tokens_per_gpu_batch / shape.page_tokens + disk_sequences;
  completed_pages = static_cast<std::int32_t>(std::min(by_tokens, std::int64_t{disk_pages}));
}

kernels::KvPages KvLayout::pages_at(std::byte* base, std::size_t stride_bytes) const {
  return {base,           cache_dtype,   static_cast<std::int64_t>(stride_bytes), shape.page_tokens,
          shape.kv_heads, shape.head_dim};
}

KvMemory::KvMemory(const KvLayout& layout, const Blocks& blocks) {
  const std::uint64_t layers = count_of(layout.shape.layers);
  const auto cache_of = [&](Tier tier) {
    return static_cast<std::uint64_t>(layout.pages_in(tier));
  };
  KvCarver device_cache(blocks.device_cache);
  device_pages = device_cache.take(cache_of(Tier::device), layout.page_bytes);

  KvCarver host_cache(blocks.host_cache);
  host_pages = host_cache.take(cache_of(Tier::host), layout.page_bytes);
  host_tails =
      host_cache.take(product(layers, count_of(layout.slots_in(Tier::disk))), layout.page_bytes);

  const std::uint64_t gpu_batches = count_of(layout.shape.gpu_batches);
  const std::uint64_t tokens = count_of(layout.shape.tokens_per_gpu_batch);
  const std::uint64_t token_bytes =
      sum(layout.uses_rows() ? product(2, layout.kv_row_bytes) : 0,
          layout.host_attends ? product(2, layout.query_row_bytes) : 0);
  KvCarver device(blocks.device_staging);
  KvCarver host(blocks.host_staging);
  for (std::size_t i = 0; i < 2; ++i) {
    device_ring[i] = device.take(count_of(layout.streamed_pages), layout.page_bytes);
    read_ring[i] = host.take(count_of(layout.disk_pages), layout.file_page_bytes, kFileAlignment);
    write_ring[i] =
        host.take(count_of(layout.completed_pages), layout.file_page_bytes, kFileAlignment);
    row_ring[i] = host.take(tokens, token_bytes);
  }
  device_tables = device.take(gpu_batches, KvStep::device_table_bytes(layout));
  KvCarver control(blocks.control);
  host_tables = control.take(2 * gpu_batches, KvStep::host_table_bytes(layout));

  device_cache_bytes = device_cache.used();
  host_cache_bytes = host_cache.used();
  device_staging_bytes = device.used();
  host_staging_bytes = host.used();
  control_bytes = control.used();
}

}  // namespace sluice::offload
