// append_kv and attention of the CUDA engine on a ragged batch over scattered pages, and what the
// oracle says of it.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launches.h"
#include "kernels/group_quantize.h"
#include "tests/kernels/cuda/emulated_matrix.h"
#include "tests/support/reference_ops.h"

namespace sluice::cuda_test {

using emulated_test::Numbers;
using emulated_test::OnDevice;
using reference::Matrix;

struct AttentionShape {
  DType cache = DType::f32;
  DType activations = DType::f32;
  std::int32_t kv_heads = 1;
  std::int32_t head_dim = 64;
  std::int32_t page_tokens = 16;
  kernels::AttentionRule rule = {0.2F};
  std::size_t offset = 0;  // bytes that keys and values lie behind an aligned address
  std::int32_t group = 1;  // query heads of a KV head
};

struct Tokens {
  std::int32_t context;
  std::int32_t added;  // the last ones
};

constexpr std::byte kUntouched{0x5A};

/// A copy of host bytes in device memory.
class DeviceCopy {
 public:
  explicit DeviceCopy(std::vector<std::byte>& bytes) : bytes_(bytes) {
    cuda::check(cudaMalloc(&data_, bytes.size()), "cudaMalloc");
    cuda::check(cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyDefault), "cudaMemcpy");
  }
  ~DeviceCopy() { cudaFree(data_); }
  DeviceCopy(DeviceCopy&&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  /// Puts what is there now back to where it came from.
  void read() const {
    cuda::check(cudaMemcpy(bytes_.data(), data_, bytes_.size(), cudaMemcpyDefault), "cudaMemcpy");
  }

 private:
  std::vector<std::byte>& bytes_;
  void* data_ = nullptr;
};

/// Sequences whose keys and values depend on their number alone. Their rows are the other way
/// round than they are, with kGap rows of nobody before each.
class AttentionCase {
 public:
  static constexpr std::int32_t kGap = 2;

  AttentionCase(const AttentionShape& shape, std::vector<Tokens> tokens, std::int32_t first = 0)
      : shape_(shape), tokens_(std::move(tokens)), first_(first) {
    cache_.dtype = shape.cache;
    cache_.kv_heads = shape.kv_heads;
    cache_.head_dim = shape.head_dim;
    cache_.page_tokens = shape.page_tokens;
    for (const Tokens& of : tokens_) {
      max_pages_ = std::max(max_pages_, (of.context + shape.page_tokens - 1) / shape.page_tokens);
    }
    pages_.resize(tokens_.size() * static_cast<std::size_t>(max_pages_));
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), std::mt19937(5));
    cache_.page_stride_bytes = static_cast<std::int64_t>((cache_.page_bytes() + 47) / 16 * 16);
    // What was not written must not be read: NaN in every type.
    memory_.assign(pages_.size() * static_cast<std::size_t>(cache_.page_stride_bytes),
                   std::byte{0xFF});
    for (std::size_t s = 0; s < tokens_.size(); ++s) {
      const std::uint64_t seed = 3 * (first_ + s) + 1;
      keys_.push_back(Matrix::random(tokens_[s].context, kv_width(), shape.activations, seed));
      values_.push_back(
          Matrix::random(tokens_[s].context, kv_width(), shape.activations, seed + 1));
      query_.push_back(Matrix::random(tokens_[s].added, width(), shape.activations, seed + 2));
    }
  }

  /// Of queries and results.
  std::int64_t width() const { return shape_.group * kv_width(); }
  std::int64_t kv_width() const { return std::int64_t{shape_.kv_heads} * shape_.head_dim; }
  std::size_t sequences() const { return tokens_.size(); }
  const kernels::KvPages& cache() const { return cache_; }
  Matrix& keys(std::size_t s) { return keys_[s]; }
  Matrix& values(std::size_t s) { return values_[s]; }
  Matrix& query(std::size_t s) { return query_[s]; }

  /// Puts all tokens into the cache: what was there before first, where anything was.
  void append() {
    std::vector<Tokens> before;
    for (const Tokens& of : tokens_) before.push_back({of.context - of.added, 0});
    append_part(before, true);
    append_part(tokens_, false);
  }

  /// Gives pages that no new token sees a number far beyond the cache.
  void lose_hidden_pages() {
    for (std::size_t s = 0; s < tokens_.size(); ++s) {
      const std::int32_t first = tokens_[s].context - tokens_[s].added + 1 - shape_.rule.window;
      for (std::int32_t i = 0; i < first / shape_.page_tokens; ++i) {
        pages_[s * static_cast<std::size_t>(max_pages_) + static_cast<std::size_t>(i)] = 1 << 30;
      }
    }
  }

  /// Values of tokens before the new ones lie apart from now on.
  void part_values() { values_apart_ = true; }

  /// Attention of the new tokens. Row r of sequence s is row row_of(s) + r of the result.
  /// compute_capability: 0, that of the device.
  void attend(std::size_t scratch_bytes = cuda::kAttentionScratchBytes,
              int compute_capability = 0) {
    Rows rows = make_rows(tokens_, width());
    for (std::size_t s = 0; s < tokens_.size(); ++s) put(query_[s], 0, rows, s, rows.first);
    Matrix untouched(rows.first.rows(), width(), shape_.activations);
    std::memset(untouched.view().data, static_cast<int>(kUntouched), untouched.view().bytes());
    const OnDevice query(rows.first, shape_.activations);
    const OnDevice out(untouched, shape_.activations);
    std::vector<std::byte> lean = memory_;
    if (values_apart_) lose_old_values(lean);
    const DeviceCopy memory(lean);
    const DeviceCopy whole(memory_);
    // Room behind the scratch shows what is written there.
    std::vector<std::byte> scratch(scratch_bytes + 64, std::byte{0xFF});
    const DeviceCopy scratch_memory(scratch);
    cuda::prepare_attention();
    cuda::AttentionResources resources =
        cuda::attention_resources(scratch_memory.data(), scratch_bytes);
    if (compute_capability > 0) resources.compute_capability = compute_capability;
    cache_.base = memory.data();
    cache_.old_values = values_apart_ ? whole.data() : nullptr;
    const DeviceBatch batch(rows, max_pages_);
    kernels::KvBatch view = batch.view();
    if (values_apart_) view.old_pages = view.pages;
    cuda::launch_attention(nullptr, out.view(), query.view(), cache_, view, shape_.rule, resources);
    cuda::check(cudaDeviceSynchronize(), "attention");
    out_ = out.now();
    first_row_ = rows.first_row;
    scratch_memory.read();
    for (std::size_t i = scratch_bytes; i < scratch.size(); ++i) {
      ASSERT_EQ(scratch[i], std::byte{0xFF}) << "more than the scratch was written";
    }
  }

  std::int32_t row_of(std::size_t s) const { return first_row_[s]; }
  Matrix& out() { return out_; }
  std::vector<std::byte> bytes_of(std::size_t s) {
    const TensorView view = out_.view().slice(first_row_[s], tokens_[s].added);
    const auto* const bytes = static_cast<const std::byte*>(view.data);
    return {bytes, bytes + view.bytes()};
  }
  /// Of rows of nobody.
  bool others_are_untouched() {
    std::vector<bool> own(static_cast<std::size_t>(out_.rows()), false);
    for (std::size_t s = 0; s < tokens_.size(); ++s) {
      std::fill_n(own.begin() + first_row_[s], tokens_[s].added, true);
    }
    for (std::int64_t r = 0; r < out_.rows(); ++r) {
      const std::byte* const row = out_.view().row(r);
      const auto untouched = [](std::byte byte) { return byte == kUntouched; };
      if (!own[static_cast<std::size_t>(r)] &&
          !std::all_of(row, row + out_.view().row_bytes(), untouched)) {
        return false;
      }
    }
    return true;
  }

  Matrix wanted(std::size_t s) const {
    return reference::attention(query_[s], as_cached(keys_[s]), as_cached(values_[s]),
                                shape_.group * shape_.kv_heads, shape_.rule);
  }

  /// Keys or values as the cache holds them: narrowed, or quantised and expanded.
  Matrix as_cached(const Matrix& exact) const {
    const bool packed = is_quantized(shape_.cache);
    Matrix result(exact.rows(), exact.columns(), packed ? DType::f32 : shape_.cache);
    std::vector<float> vector(static_cast<std::size_t>(shape_.head_dim));
    std::vector<std::byte> row(packed ? row_bytes_of(shape_.cache, shape_.head_dim) : 0);
    for (std::int64_t r = 0; r < exact.rows(); ++r) {
      for (std::int64_t first = 0; first < exact.columns(); first += shape_.head_dim) {
        for (std::int64_t d = 0; d < shape_.head_dim; ++d) {
          vector[static_cast<std::size_t>(d)] = static_cast<float>(exact.at(r, first + d));
        }
        if (packed) {
          kernels::quantize_rows(DType::f32, vector.data(), 1, shape_.head_dim, shape_.cache,
                                 row.data());
          kernels::dequantize_rows(shape_.cache, row.data(), 1, shape_.head_dim, vector.data());
        }
        for (std::int64_t d = 0; d < shape_.head_dim; ++d) {
          result.set(r, first + d, static_cast<double>(vector[static_cast<std::size_t>(d)]));
        }
      }
    }
    return result;
  }

  /// Where the cache holds a vector.
  const std::byte* vector(std::size_t s, std::int32_t position, std::int32_t head,
                          bool values) const {
    const auto slot = s * static_cast<std::size_t>(max_pages_) +
                      static_cast<std::size_t>(position / shape_.page_tokens);
    const std::int64_t index =
        std::int64_t{(values ? shape_.kv_heads : 0) + head} * shape_.page_tokens +
        position % shape_.page_tokens;
    return memory_.data() + pages_[slot] * cache_.page_stride_bytes +
           index * static_cast<std::int64_t>(row_bytes_of(shape_.cache, shape_.head_dim));
  }

  /// More pages than any sequence needs, as for a batch with a longer one.
  void allow_pages(std::int32_t more) {
    std::vector<std::int32_t> wide;
    for (std::size_t s = 0; s < tokens_.size(); ++s) {
      const auto begin = pages_.begin() + static_cast<std::ptrdiff_t>(s) * max_pages_;
      wide.insert(wide.end(), begin, begin + max_pages_);
      wide.insert(wide.end(), static_cast<std::size_t>(more), -1);
    }
    pages_ = wide;
    max_pages_ += more;
  }

 private:
  /// NaN in every type.
  void lose_old_values(std::vector<std::byte>& memory) const {
    for (std::size_t s = 0; s < tokens_.size(); ++s) {
      for (std::int32_t position = 0; position < tokens_[s].context - tokens_[s].added;
           ++position) {
        for (std::int32_t head = 0; head < shape_.kv_heads; ++head) {
          const std::ptrdiff_t at = vector(s, position, head, true) - memory_.data();
          const auto bytes =
              static_cast<std::ptrdiff_t>(row_bytes_of(shape_.cache, shape_.head_dim));
          std::fill_n(memory.begin() + at, bytes, std::byte{0xFF});
        }
      }
    }
  }

  /// A batch's activations, and its arrays.
  struct Rows {
    Matrix first;   // queries, or keys
    Matrix second;  // values
    std::vector<std::int32_t> sequence;
    std::vector<std::int32_t> first_row;
    std::vector<std::int32_t> new_tokens;
    std::vector<std::int32_t> context;
    std::vector<std::int32_t> pages;
  };

  Rows make_rows(const std::vector<Tokens>& tokens, std::int64_t width) const {
    Rows rows;
    std::int32_t next = kGap;
    for (const Tokens& of : tokens) {
      rows.new_tokens.push_back(of.added);
      rows.context.push_back(of.context);
      next += of.added + kGap;
    }
    rows.first = Matrix(next, width, shape_.activations);
    rows.second = rows.first;
    for (const Tokens& of : tokens) {
      next -= of.added + kGap;
      rows.first_row.push_back(next);
    }
    rows.pages = pages_;
    return rows;
  }

  static void put(const Matrix& from, std::int64_t first, Rows& rows, std::size_t s, Matrix& to) {
    for (std::int64_t r = 0; r < rows.new_tokens[s]; ++r) {
      for (std::int64_t c = 0; c < from.columns(); ++c) {
        to.set(rows.first_row[s] + r, c, from.at(first + r, c));
      }
    }
  }

  /// The arrays of a batch in device memory.
  class DeviceBatch {
   public:
    DeviceBatch(const Rows& rows, std::int32_t max_pages)
        : first_row_(rows.first_row),
          new_tokens_(rows.new_tokens),
          context_(rows.context),
          pages_(rows.pages) {
      batch_.sequences = static_cast<std::int32_t>(rows.context.size());
      batch_.max_pages = max_pages;
      batch_.first_row = first_row_.data();
      batch_.new_tokens = new_tokens_.data();
      batch_.context = context_.data();
      batch_.pages = pages_.data();
    }
    const kernels::KvBatch& view() const { return batch_; }

   private:
    Numbers first_row_;
    Numbers new_tokens_;
    Numbers context_;
    Numbers pages_;
    kernels::KvBatch batch_;
  };

  /// The last `added` of each; with `whole`, all of the context of those that have any.
  void append_part(std::vector<Tokens> tokens, bool whole) {
    std::vector<std::size_t> who;
    std::vector<Tokens> some;
    for (std::size_t s = 0; s < tokens.size(); ++s) {
      if (tokens[s].context == 0) continue;
      who.push_back(s);
      some.push_back({tokens[s].context, whole ? tokens[s].context : tokens[s].added});
    }
    Rows rows = make_rows(some, kv_width());
    rows.pages.clear();
    for (std::size_t i = 0; i < who.size(); ++i) {
      const std::int64_t first = some[i].context - some[i].added;
      put(keys_[who[i]], first, rows, i, rows.first);
      put(values_[who[i]], first, rows, i, rows.second);
      const auto begin = pages_.begin() + static_cast<std::ptrdiff_t>(who[i]) * max_pages_;
      rows.pages.insert(rows.pages.end(), begin, begin + max_pages_);
    }
    if (who.empty()) return;
    const OnDevice keys(rows.first, shape_.activations, shape_.offset);
    const OnDevice values(rows.second, shape_.activations, shape_.offset);
    const DeviceCopy memory(memory_);
    cache_.base = memory.data();
    const DeviceBatch batch(rows, max_pages_);
    cuda::launch_append_kv(nullptr, cache_, batch.view(), keys.view(), values.view());
    cuda::check(cudaDeviceSynchronize(), "append_kv");
    memory.read();
  }

  AttentionShape shape_;
  std::vector<Tokens> tokens_;
  std::uint64_t first_;
  kernels::KvPages cache_;
  std::int32_t max_pages_ = 0;
  std::vector<std::int32_t> pages_;
  std::vector<std::byte> memory_;
  std::vector<Matrix> keys_;
  std::vector<Matrix> values_;
  std::vector<Matrix> query_;
  Matrix out_;
  std::vector<std::int32_t> first_row_;
  bool values_apart_ = false;
};

/// Every row is the oracle's within `tolerance`, and nothing else was written.
inline void expect_oracle(AttentionCase& made, double tolerance) {
  for (std::size_t s = 0; s < made.sequences(); ++s) {
    const Matrix wanted = made.wanted(s);
    for (std::int64_t r = 0; r < wanted.rows(); ++r) {
      for (std::int64_t c = 0; c < wanted.columns(); ++c) {
        ASSERT_NEAR(made.out().at(made.row_of(s) + r, c), wanted.at(r, c), tolerance)
            << "sequence " << s << ", row " << r << ", column " << c;
      }
    }
  }
  EXPECT_TRUE(made.others_are_untouched());
}

}  // namespace sluice::cuda_test
