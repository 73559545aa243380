// New keys and values into their pages, narrowed to the cache's type (to nearest, ties to even).
// Bound by memory: writes each element once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/append_kv.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernels/cpu/vectors-inl.h"
#include "kernels/device/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

void narrow_to_f16(const float* from, std::int64_t count, hwy::float16_t* to) {
  const Floats d;
  const hn::Rebind<hwy::float16_t, Floats> halves;
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::DemoteTo(halves, hn::LoadU(d, from + i)), halves, to + i);
  }
  if (i == count) return;
  alignas(64) hwy::float16_t lanes[kLanes];
  hn::StoreU(hn::DemoteTo(halves, load_first(d, from + i, count - i)), halves, lanes);
  std::memcpy(static_cast<void*>(to + i), lanes,
              static_cast<std::size_t>(count - i) * sizeof(hwy::float16_t));
}

/// By hand: Highway's own conversion cuts off the low half instead of rounding.
void narrow_to_bf16(const float* from, std::int64_t count, std::uint16_t* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, from + i, sizeof(bits));
    const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    const std::uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
    to[i] = static_cast<std::uint16_t>((nan ? bits | 0x400000U : rounded) >> 16);
  }
}

void narrow(const float* from, std::int64_t count, DType dtype, void* to) {
  switch (dtype) {
    case DType::f16:
      return narrow_to_f16(from, count, static_cast<hwy::float16_t*>(to));
    case DType::bf16:
      return narrow_to_bf16(from, count, static_cast<std::uint16_t*>(to));
    default:
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(narrow);

namespace {

/// All heads of token `token` of sequence `s` of the batch.
void append_token(const KvPages& cache, const KvBatch& batch, std::int32_t s, std::int32_t token,
                  const TensorView& keys, const TensorView& values) {
  const auto run = HWY_DYNAMIC_DISPATCH(narrow);
  const std::int64_t dim = cache.head_dim;
  const std::int64_t element = static_cast<std::int64_t>(size_of(cache.dtype));
  const std::int64_t position = batch.context[s] - batch.new_tokens[s] + token;
  const std::int64_t page =
      batch.pages[std::int64_t{s} * batch.max_pages + position / cache.page_tokens];
  std::byte* const base = static_cast<std::byte*>(cache.base) + page * cache.page_stride_bytes;
  std::byte* const base_of_values =
      base + std::int64_t{cache.heads} * cache.page_tokens * dim * element;
  const std::int64_t row = batch.first_row[s] + token;
  const auto* key = reinterpret_cast<const float*>(keys.row(row));
  const auto* value = reinterpret_cast<const float*>(values.row(row));
  for (std::int64_t head = 0; head < cache.heads; ++head) {
    const std::int64_t offset =
        (head * cache.page_tokens + position % cache.page_tokens) * dim * element;
    run(key + head * dim, dim, cache.dtype, base + offset);
    run(value + head * dim, dim, cache.dtype, base_of_values + offset);
  }
}

}  // namespace

void append_kv(const CpuContext& context, const KvPages& cache, const KvBatch& batch,
               TensorView keys, TensorView values) {
  check_batch("append_kv", cache, batch, keys.rows);
  std::int64_t elements = 0;
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    elements += batch.new_tokens[s] * 2 * keys.columns;
  }
  const auto body = [&](std::int64_t s, float*) {
    for (std::int32_t token = 0; token < batch.new_tokens[s]; ++token) {
      append_token(cache, batch, static_cast<std::int32_t>(s), token, keys, values);
    }
  };
  context.for_each(batch.sequences, elements, body);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
