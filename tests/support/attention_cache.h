// An engine with a KV cache of one layer, and what the tests of attention() compare it with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kernels/engine.h"
#include "kernels/group_quantize.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels::attention_test {

using reference::Matrix;

struct CacheShape {
  DType dtype = DType::f32;
  std::int32_t kv_heads = 2;
  std::int32_t head_dim = 16;
  std::int32_t page_tokens = 16;
};

/// An engine with a cache of `page_count` pages; sequences are given pages by their tables.
class Attention {
 public:
  Attention(int threads, const CacheShape& shape, std::int32_t page_count) {
    EngineOptions options;
    options.device = "cpu";
    options.threads = threads;
    engine_ = make_engine(options);
    cache_.dtype = shape.dtype;
    cache_.kv_heads = shape.kv_heads;
    cache_.head_dim = shape.head_dim;
    cache_.page_tokens = shape.page_tokens;
    cache_.page_stride_bytes = static_cast<std::int64_t>(cache_.page_bytes()) + 64;
    memory_.assign(static_cast<std::size_t>(page_count * cache_.page_stride_bytes),
                   std::byte{0xFF});  // NaN in every type: what is not written must not be read
    cache_.base = memory_.data();
  }

  struct Sequence {
    std::int32_t first_row;
    std::int32_t new_tokens;
    std::int32_t context;
    std::vector<std::int32_t> pages;
  };

  /// Appends and attends. Rows of `out` that no sequence names stay as they are. The width of query
  /// and out says how many query heads there are.
  void step(const std::vector<Sequence>& sequences, Matrix& query, Matrix& keys, Matrix& values,
            Matrix& out, const AttentionRule& rule = {.scale = 0.25F}) {
    const Tables tables(sequences);
    const KvBatch batch = tables.batch();
    engine_.device_ops->append_kv(cache_, batch, keys.view(), values.view());
    engine_.device_ops->attention(out.view(), query.view(), cache_, batch, rule);
    engine_.backend->synchronize(engine_.backend->record(Lane::compute));
  }

  void append(const Sequence& sequence, Matrix& keys, Matrix& values) {
    const Tables tables({sequence});
    engine_.device_ops->append_kv(cache_, tables.batch(), keys.view(), values.view());
    engine_.backend->synchronize(engine_.backend->record(Lane::compute));
  }

  /// The row of a head of a token, as it lies in the cache.
  std::span<const std::byte> kept(std::int32_t page, std::int32_t token, std::int32_t head,
                                  bool value) const {
    const std::size_t bytes = row_bytes_of(cache_.dtype, cache_.head_dim);
    const std::int32_t row = ((value ? cache_.kv_heads : 0) + head) * cache_.page_tokens + token;
    return std::span(memory_).subspan(static_cast<std::size_t>(page * cache_.page_stride_bytes) +
                                          static_cast<std::size_t>(row) * bytes,
                                      bytes);
  }

  KvPages& cache() { return cache_; }

 private:
  /// The arrays of a batch.
  class Tables {
   public:
    explicit Tables(const std::vector<Sequence>& sequences) {
      for (const Sequence& s : sequences) max_pages_ = std::max(max_pages_, s.pages.size());
      for (const Sequence& s : sequences) {
        first_row_.push_back(s.first_row);
        new_tokens_.push_back(s.new_tokens);
        context_.push_back(s.context);
        pages_.insert(pages_.end(), s.pages.begin(), s.pages.end());
        pages_.resize(pages_.size() + max_pages_ - s.pages.size(), -1);
      }
    }
    KvBatch batch() const {
      return {static_cast<std::int32_t>(context_.size()),
              static_cast<std::int32_t>(max_pages_),
              first_row_.data(),
              new_tokens_.data(),
              context_.data(),
              pages_.data()};
    }

   private:
    std::vector<std::int32_t> first_row_, new_tokens_, context_, pages_;
    std::size_t max_pages_ = 0;
  };

  Engine engine_;
  KvPages cache_;
  std::vector<std::byte> memory_;
};

inline std::vector<std::int32_t> pages_from(std::int32_t first, std::int32_t count) {
  std::vector<std::int32_t> pages(static_cast<std::size_t>(count));
  std::iota(pages.begin(), pages.end(), first);
  return pages;
}

inline Matrix rows_of(const Matrix& from, std::int64_t first, std::int64_t count) {
  Matrix rows(count, from.columns(), from.dtype());
  for (std::int64_t row = 0; row < count; ++row) {
    for (std::int64_t i = 0; i < from.columns(); ++i) rows.set(row, i, from.at(first + row, i));
  }
  return rows;
}

/// The same values, rounded to another type that is not quantised.
inline Matrix as(const Matrix& from, DType dtype) {
  Matrix to(from.rows(), from.columns(), dtype);
  for (std::int64_t row = 0; row < from.rows(); ++row) {
    for (std::int64_t i = 0; i < from.columns(); ++i) to.set(row, i, from.at(row, i));
  }
  return to;
}

/// As the cache keeps it: each head of a row is a row of its own.
inline Matrix rounded(const Matrix& from, DType dtype, std::int32_t kv_heads) {
  if (is_quantized(dtype)) {
    Matrix to(from.rows(), from.columns());
    const std::int64_t dim = from.columns() / kv_heads;
    std::vector<std::byte> packed(row_bytes_of(dtype, dim));
    auto* const target = static_cast<float*>(to.view().data);
    const auto* const source = reinterpret_cast<const float*>(from.bytes().data());
    for (std::int64_t at = 0; at < from.rows() * from.columns(); at += dim) {
      quantize_rows(DType::f32, source + at, 1, dim, dtype, packed.data());
      dequantize_rows(dtype, packed.data(), 1, dim, target + at);
    }
    return to;
  }
  return as(from, dtype);
}

/// Queries meet quantised keys as integers of 16 bits (kernels/cpu/attention_codes-inl.h).
constexpr double tolerance_of(DType dtype) { return is_quantized(dtype) ? 4e-5 : 2e-6; }

inline void expect_near(const Matrix& actual, const Matrix& expected, DType dtype) {
  for (std::int64_t row = 0; row < actual.rows(); ++row) {
    for (std::int64_t i = 0; i < actual.columns(); ++i) {
      ASSERT_NEAR(actual.at(row, i), expected.at(row, i), tolerance_of(dtype))
          << "row " << row << ", " << i;
    }
  }
}

}  // namespace sluice::kernels::attention_test
