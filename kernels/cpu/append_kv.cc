// Writes new keys and values into their pages: a copy where they have the cache's type, else
// narrowed to it. A number that the type cannot hold becomes infinite or NaN, so that the fault
// shows in its own sequence alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/append_kv.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/narrow-inl.h"
#include "kernels/cpu/operations.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

HWY_INLINE void narrow(const float* from, std::int64_t count, DType dtype, void* to) {
  if (is_quantized(dtype)) {
    narrow_to_codes(from, count, dtype, to);
  } else if (dtype == DType::f32) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
  } else {
    narrow_to_halves(from, count, dtype, static_cast<std::uint16_t*>(to));
  }
}

/// One head of a token. 16-bit elements reach the cache's type by way of floats, which hold them
/// all.
HWY_INLINE void keep(const std::byte* from, DType from_dtype, std::int64_t count, DType dtype,
                     void* to) {
  const Floats d;
  if (from_dtype == dtype) {
    std::memcpy(to, from, row_bytes_of(dtype, count));
    return;
  }
  if (from_dtype == DType::f32) {
    narrow(reinterpret_cast<const float*>(from), count, dtype, to);
    return;
  }
  float widened[kMaxHeadDim];
  if (from_dtype == DType::f16) {
    widen(d, reinterpret_cast<const hwy::float16_t*>(from), count, widened);
  } else {
    widen(d, reinterpret_cast<const hwy::bfloat16_t*>(from), count, widened);
  }
  narrow(widened, count, dtype, to);
}

/// All heads of token `token` of sequence `s` of the batch.
void append_token(const KvPages& cache, const KvBatch& batch, std::int32_t s, std::int64_t token,
                  const TensorView& keys, const TensorView& values) {
  const std::int64_t dim = cache.head_dim;
  const auto row_bytes = static_cast<std::int64_t>(row_bytes_of(cache.dtype, dim));
  const std::int64_t position = batch.context[s] - batch.new_tokens[s] + token;
  const std::int64_t page =
      batch.pages[std::int64_t{s} * batch.max_pages + position / cache.page_tokens];
  std::byte* const base = static_cast<std::byte*>(cache.base) + page * cache.page_stride_bytes;
  std::byte* const base_of_values =
      base + std::int64_t{cache.kv_heads} * cache.page_tokens * row_bytes;
  const std::int64_t row = batch.first_row[s] + token;
  const std::byte* const key = keys.row(row);
  const std::byte* const value = values.row(row);
  const auto head_bytes = static_cast<std::int64_t>(row_bytes_of(keys.dtype, dim));
  for (std::int64_t head = 0; head < cache.kv_heads; ++head) {
    const std::int64_t offset =
        (head * cache.page_tokens + position % cache.page_tokens) * row_bytes;
    keep(key + head * head_bytes, keys.dtype, dim, cache.dtype, base + offset);
    keep(value + head * head_bytes, keys.dtype, dim, cache.dtype, base_of_values + offset);
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(append_token);

void append_kv(const CpuContext& context, const KvPages& cache, const KvBatch& batch,
               TensorView keys, TensorView values) {
  check_batch("append_kv", cache, batch, keys.rows, 1);  // new tokens alone matter
  constexpr std::int64_t kTokens = 16;                   // of a sequence at a time
  std::int64_t tokens = 0;
  std::int64_t most = 0;
  for (std::int32_t s = 0; s < batch.sequences; ++s) {
    tokens += batch.new_tokens[s];
    most = std::max<std::int64_t>(most, batch.new_tokens[s]);
  }
  const std::int64_t pieces = (most + kTokens - 1) / kTokens;  // of the longest; others have less
  const auto append = HWY_DYNAMIC_DISPATCH(append_token);
  const auto body = [&](std::int64_t index, float*) {
    const auto s = static_cast<std::int32_t>(index / pieces);
    const std::int64_t first = index % pieces * kTokens;
    const std::int64_t end = std::min<std::int64_t>(first + kTokens, batch.new_tokens[s]);
    for (std::int64_t token = first; token < end; ++token) {
      append(cache, batch, s, token, keys, values);
    }
  };
  context.for_each(batch.sequences * pieces, tokens * 2 * keys.columns, body);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
