// New keys and values into their pages, narrowed to the cache's type (to nearest, ties to even).
// Writes each element once; too little beside the products of a layer to be worth vectors, whose
// conversions round in different ways from one instruction set to the next.
#include <cstdint>
#include <cstring>

#include "kernels/cpu/operations.h"
#include "kernels/device/dtype.h"

namespace sluice::kernels {

namespace {

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

std::uint16_t to_f16(float value) {
  constexpr std::uint32_t kInfinity = 0x7F800000U;
  constexpr std::uint32_t kOverflow = 0x477FF000U;   // 65520: half way to the next, which is none
  constexpr std::uint32_t kSubnormal = 0x38800000U;  // 2^-14
  constexpr std::uint32_t kRebias = (127U - 15U) << 23;
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > kInfinity) return static_cast<std::uint16_t>(sign | 0x7E00U);  // NaN
  if (magnitude >= kOverflow) return static_cast<std::uint16_t>(sign | 0x7C00U);
  if (magnitude < kSubnormal) {
    // Beside 0.5 the last bit of a float is worth 2^-24, that of a subnormal f16.
    const float shifted = (sign != 0 ? -value : value) + 0.5F;
    return static_cast<std::uint16_t>(sign | (bits_of(shifted) - bits_of(0.5F)));
  }
  const std::uint32_t rounded = magnitude - kRebias + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

std::uint16_t to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  const std::uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  return static_cast<std::uint16_t>((nan ? bits | 0x400000U : rounded) >> 16);
}

void narrow(const float* from, std::int64_t count, DType dtype, void* to) {
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
  const auto element = static_cast<std::int64_t>(size_of(cache.dtype));
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
