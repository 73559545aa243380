// New keys and values into their pages, narrowed to the cache's type (to nearest, ties to even).
// Writes each element once; too little beside the products of a layer to be worth vectors, whose
// conversions round in different ways from one instruction set to the next.
#include <cstdint>
#include <cstring>

#include "kernels/cpu/operations.h"
#include "kernels/device/dtype.h"
#include "kernels/group_quantize.h"
#include "kernels/half.h"

namespace sluice::kernels {

namespace {

void narrow(const float* from, std::int64_t count, DType dtype, void* to) {
  if (is_quantized(dtype)) {
    quantize_rows(DType::f32, from, 1, count, dtype, to);
    return;
  }
  if (dtype == DType::f32) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* const halves = static_cast<std::uint16_t*>(to);
  for (std::int64_t i = 0; i < count; ++i) {
    halves[i] = dtype == DType::f16 ? to_f16(from[i]) : to_bf16(from[i]);
  }
}

/// All heads of token `token` of sequence `s` of the batch.
void append_token(const KvPages& cache, const KvBatch& batch, std::int32_t s, std::int32_t token,
                  const TensorView& keys, const TensorView& values) {
  const std::int64_t dim = cache.head_dim;
  const auto vector_bytes = static_cast<std::int64_t>(row_bytes_of(cache.dtype, dim));
  const std::int64_t position = batch.context[s] - batch.new_tokens[s] + token;
  const std::int64_t page =
      batch.pages[std::int64_t{s} * batch.max_pages + position / cache.page_tokens];
  std::byte* const base = static_cast<std::byte*>(cache.base) + page * cache.page_stride_bytes;
  std::byte* const base_of_values =
      base + std::int64_t{cache.heads} * cache.page_tokens * vector_bytes;
  const std::int64_t row = batch.first_row[s] + token;
  const auto* key = reinterpret_cast<const float*>(keys.row(row));
  const auto* value = reinterpret_cast<const float*>(values.row(row));
  for (std::int64_t head = 0; head < cache.heads; ++head) {
    const std::int64_t offset =
        (head * cache.page_tokens + position % cache.page_tokens) * vector_bytes;
    narrow(key + head * dim, dim, cache.dtype, base + offset);
    narrow(value + head * dim, dim, cache.dtype, base_of_values + offset);
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
