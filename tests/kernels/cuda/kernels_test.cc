// Attention kernels on the host, against the oracle in double precision: every dtype of the cache,
// ragged shapes, odd sizes.
#include "tests/support/cuda_on_host.h"
// The kernels want the words above.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "kernels/cuda/append_kv.cuh"
#include "kernels/cuda/attention.cuh"
#include "kernels/group_quantize.h"
#include "tests/support/reference_ops.h"

namespace sluice {
namespace {

using reference::Matrix;
using support::launch_on_host;

std::vector<float> floats_of(const Matrix& matrix) {
  std::vector<float> values;
  for (std::int64_t r = 0; r < matrix.rows(); ++r) {
    for (std::int64_t c = 0; c < matrix.columns(); ++c) {
      values.push_back(static_cast<float>(matrix.at(r, c)));
    }
  }
  return values;
}

void expect_near(const std::vector<float>& got, const Matrix& wanted, double tolerance) {
  ASSERT_EQ(got.size(), static_cast<std::size_t>(wanted.rows() * wanted.columns()));
  for (std::int64_t r = 0; r < wanted.rows(); ++r) {
    for (std::int64_t c = 0; c < wanted.columns(); ++c) {
      const auto value =
          static_cast<double>(got[static_cast<std::size_t>(r * wanted.columns() + c)]);
      ASSERT_NEAR(value, wanted.at(r, c), tolerance) << "row " << r << ", column " << c;
    }
  }
}

/// Calls `body.operator()<dtype>()`.
template <class Body>
void with_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f16:
      return body.template operator()<DType::f16>();
    case DType::bf16:
      return body.template operator()<DType::bf16>();
    case DType::q8:
      return body.template operator()<DType::q8>();
    case DType::q4:
      return body.template operator()<DType::q4>();
    default:
      return body.template operator()<DType::f32>();
  }
}

class CudaKernels : public testing::TestWithParam<DType> {};

/// Sequences of different lengths, their pages scattered over a pool.
struct Cache {
  Cache(DType dtype, int heads, int head_dim, int page_tokens, const std::vector<int>& contexts)
      : lengths(contexts) {
    pages.dtype = dtype;
    pages.heads = heads;
    pages.head_dim = head_dim;
    pages.page_tokens = page_tokens;
    const int longest = *std::max_element(contexts.begin(), contexts.end());
    max_pages = (longest + page_tokens - 1) / page_tokens;
    numbers.resize(contexts.size() * static_cast<std::size_t>(max_pages));
    std::iota(numbers.begin(), numbers.end(), 0);
    std::shuffle(numbers.begin(), numbers.end(), std::mt19937(5));
    pages.page_stride_bytes = static_cast<std::int64_t>(pages.page_bytes() + 32);
    memory.assign(numbers.size() * static_cast<std::size_t>(pages.page_stride_bytes),
                  std::byte{0xFF});
    pages.base = memory.data();
  }

  kernels::KvBatch batch(const std::vector<std::int32_t>& first_row,
                         const std::vector<std::int32_t>& new_tokens,
                         const std::vector<std::int32_t>& context) const {
    kernels::KvBatch batch;
    batch.sequences = static_cast<std::int32_t>(lengths.size());
    batch.max_pages = max_pages;
    batch.first_row = first_row.data();
    batch.new_tokens = new_tokens.data();
    batch.context = context.data();
    batch.pages = numbers.data();
    return batch;
  }

  std::vector<int> lengths;
  kernels::KvPages pages;
  int max_pages = 0;
  std::vector<std::int32_t> numbers;
  std::vector<std::byte> memory;
};

/// Keys (or values) of one head as the cache holds them: narrowed, or quantised and expanded.
Matrix as_cached(const Matrix& exact, DType dtype, int heads, int head_dim) {
  Matrix result(exact.rows(), exact.columns(), is_quantized(dtype) ? DType::f32 : dtype);
  std::vector<float> from(static_cast<std::size_t>(head_dim));
  std::vector<float> to(from.size());
  std::vector<std::byte> row(is_quantized(dtype) ? row_bytes_of(dtype, head_dim) : 1);
  for (std::int64_t r = 0; r < exact.rows(); ++r) {
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t d = 0; d < head_dim; ++d) {
        from[static_cast<std::size_t>(d)] = static_cast<float>(exact.at(r, head * head_dim + d));
      }
      to = from;
      if (is_quantized(dtype)) {
        kernels::quantize_rows(DType::f32, from.data(), 1, head_dim, dtype, row.data());
        kernels::dequantize_rows(dtype, row.data(), 1, head_dim, to.data());
      }
      for (std::int64_t d = 0; d < head_dim; ++d) {
        result.set(r, head * head_dim + d, static_cast<double>(to[static_cast<std::size_t>(d)]));
      }
    }
  }
  return result;
}

Matrix some_rows(const Matrix& matrix, std::int64_t first, std::int64_t count) {
  Matrix result(count, matrix.columns(), DType::f32);
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t c = 0; c < matrix.columns(); ++c) result.set(r, c, matrix.at(first + r, c));
  }
  return result;
}

/// Prefills all but the last `last` tokens of every sequence, then computes attention of those.
template <DType kType, int kRows>
void check_attention(int heads, int head_dim, int page_tokens, const std::vector<int>& contexts,
                     const std::vector<int>& last) {
  Cache cache(kType, heads, head_dim, page_tokens, contexts);
  const auto sequences = contexts.size();
  const std::int64_t width = std::int64_t{heads} * head_dim;
  std::vector<Matrix> keys;
  std::vector<Matrix> values;
  std::vector<std::int32_t> first_row;
  std::vector<std::int32_t> before;
  std::vector<float> all_keys;
  std::vector<float> all_values;
  for (std::size_t s = 0; s < sequences; ++s) {
    keys.push_back(Matrix::random(contexts[s], width, DType::f32, 10 + s));
    values.push_back(Matrix::random(contexts[s], width, DType::f32, 20 + s));
    first_row.push_back(
        static_cast<std::int32_t>(all_keys.size() / static_cast<std::size_t>(width)));
    before.push_back(contexts[s]);
    for (const float value : floats_of(keys[s])) all_keys.push_back(value);
    for (const float value : floats_of(values[s])) all_values.push_back(value);
  }
  const auto longest = static_cast<unsigned>(*std::max_element(contexts.begin(), contexts.end()));
  const kernels::KvBatch whole = cache.batch(first_row, before, before);
  launch_on_host({static_cast<unsigned>(sequences), static_cast<unsigned>(heads),
                  longest / cuda::kAppendTokens + 1},
                 cuda::kAppendThreads, 0, [&] {
                   cuda::append_kv_kernel<kType>(cache.pages, whole, all_keys.data(),
                                                 all_values.data());
                 });

  std::vector<std::int32_t> query_row;
  std::vector<std::int32_t> new_tokens(last.begin(), last.end());
  const std::int64_t total = std::accumulate(last.begin(), last.end(), 0);
  const Matrix query = Matrix::random(total, width, DType::f32, 30);
  const std::vector<float> from = floats_of(query);
  std::int32_t next = 0;
  for (const int count : last) {
    query_row.push_back(next);
    next += count;
  }
  const kernels::KvBatch batch = cache.batch(query_row, new_tokens, before);
  const int tiles = static_cast<int>((total + kRows - 1) / kRows);
  std::vector<float> out(from.size(), std::nanf(""));
  launch_on_host(
      {static_cast<unsigned>(static_cast<int>(sequences) * tiles), static_cast<unsigned>(heads), 1},
      cuda::kAttentionThreads, cuda::attention_shared_bytes(kRows, head_dim), [&] {
        cuda::attention_kernel<kType, kRows>(out.data(), from.data(), cache.pages, batch, tiles,
                                             0.2F);
      });
  for (std::size_t s = 0; s < sequences; ++s) {
    const Matrix wanted = reference::attention(
        some_rows(query, query_row[s], last[s]), as_cached(keys[s], kType, heads, head_dim),
        as_cached(values[s], kType, heads, head_dim), heads, 0.2);
    const auto begin = out.begin() + query_row[s] * width;
    expect_near({begin, begin + last[s] * width}, wanted, 2e-5);
  }
}

TEST_P(CudaKernels, AttentionOfOneNewTokenEach) {
  with_dtype(GetParam(), [&]<DType kType>() {
    check_attention<kType, 1>(2, 64, 16, {1, 70, 17}, {1, 1, 1});
    check_attention<kType, 1>(1, 24, 5, {130, 64}, {1, 1});
  });
}

TEST_P(CudaKernels, AttentionOfRaggedChunks) {
  with_dtype(GetParam(), [&]<DType kType>() {
    check_attention<kType, 16>(2, 72, 16, {40, 3, 90}, {40, 1, 23});
    check_attention<kType, 16>(1, 8, 7, {66, 20}, {33, 20});
  });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaKernels,
                         testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

}  // namespace
}  // namespace sluice
