#include "kernels/cpu/kept_keys.h"

#include <bit>

namespace sluice::kernels {

namespace {

/// Everything above `bits` is kept, and the first `equals` of those that are equal.
struct Cut {
  std::uint32_t bits = 0;
  std::int64_t equals = 0;
};

std::uint32_t bits_of(float sum) { return std::bit_cast<std::uint32_t>(sum); }

/// Where the `kept` largest of `count` sums end, 1 <= kept <= count. Sums are not negative, so that
/// their bits are in their order; NaN, which only a broken model has, comes first.
Cut find_cut(const float* sums, std::int64_t count, std::int64_t kept) {
  constexpr int kDigit = 8;
  constexpr std::uint32_t kDigits = 1U << kDigit;
  Cut cut{0, kept};
  std::uint32_t known = 0;  // which bits of the cut are
  for (int shift = 32 - kDigit; shift >= 0; shift -= kDigit) {
    std::int64_t counts[kDigits] = {};
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint32_t bits = bits_of(sums[i]);
      if ((bits & known) == cut.bits) ++counts[bits >> shift & (kDigits - 1)];
    }
    std::uint32_t digit = kDigits - 1;
    for (; counts[digit] < cut.equals; --digit) cut.equals -= counts[digit];
    cut.bits |= digit << shift;
    known |= (kDigits - 1) << shift;
  }
  return cut;
}

void fetch(const std::byte* row, std::int64_t bytes) {
  constexpr std::int64_t kLine = 64;
  constexpr int kIntoL2 = 2;
  for (std::int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(row + at, 0, kIntoL2);
}

}  // namespace

void keep_largest(const AttentionItem& item, std::int64_t begin, KeptKeys& keys) {
  const KvPages& cache = *item.cache;
  const auto row_bytes = static_cast<std::int64_t>(row_bytes_of(cache.dtype, cache.head_dim));
  const std::int64_t first = item.first_key() - begin;
  const std::int64_t newest = item.first_position - begin;
  const std::int64_t old = newest - first;
  keys.count = 0;
  const auto keep = [&](std::int64_t key) {
    fetch(keys.value_of(item, begin + key), row_bytes);
    for (std::int64_t q = 0; q < item.heads; ++q) {
      keys.weight[q * keys.stride + keys.count] = keys.weight[q * keys.stride + key];
    }
    keys.positions[keys.count++] = static_cast<std::int32_t>(begin + key);
  };
  if (old > 0) {
    Cut cut = find_cut(keys.sums + first, old, kept_values(old, item.rule.kept_millionths));
    for (std::int64_t key = first; key < newest; ++key) {
      const std::uint32_t bits = bits_of(keys.sums[key]);
      if (bits < cut.bits || (bits == cut.bits && cut.equals-- <= 0)) continue;
      keep(key);
    }
  }
  keep(newest);
}

}  // namespace sluice::kernels
