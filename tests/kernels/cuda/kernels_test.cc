// The kernels of kernels/cuda on the host, against the oracle in double precision: every dtype,
// ragged shapes, odd sizes.
#include "tests/support/cuda_on_host.h"
// The kernels want the words above.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "kernels/cuda/append_kv.cuh"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/layer_norm.cuh"
#include "kernels/cuda/quantized_product.cuh"
#include "kernels/cuda/rows.cuh"
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

Matrix matrix_of(const std::vector<float>& values, std::int64_t columns) {
  Matrix matrix(static_cast<std::int64_t>(values.size()) / columns, columns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    matrix.set(static_cast<std::int64_t>(i) / columns, static_cast<std::int64_t>(i) % columns,
               static_cast<double>(values[i]));
  }
  return matrix;
}

/// A matrix of any dtype as bytes, and the values those bytes stand for.
struct Stored {
  std::vector<std::byte> bytes;
  Matrix values;
};

Stored stored(std::int64_t rows, std::int64_t columns, DType dtype, std::uint64_t seed) {
  if (!is_quantized(dtype)) {
    const Matrix matrix = Matrix::random(rows, columns, dtype, seed);
    return {matrix.bytes(), matrix};
  }
  const std::vector<float> exact = floats_of(Matrix::random(rows, columns, DType::f32, seed));
  Stored result;
  result.bytes.resize(static_cast<std::size_t>(rows) * row_bytes_of(dtype, columns));
  kernels::quantize_rows(DType::f32, exact.data(), rows, columns, dtype, result.bytes.data());
  std::vector<float> read(exact.size());
  kernels::dequantize_rows(dtype, result.bytes.data(), rows, columns, read.data());
  result.values = matrix_of(read, columns);
  return result;
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

TEST_P(CudaKernels, GatherTakesRowsOfBothParts) {
  constexpr std::int64_t kRows = 9;
  constexpr std::int64_t kColumns = 100;
  const Stored table = stored(kRows, kColumns, GetParam(), 1);
  const std::vector<std::int32_t> ids = {8, 0, 3, 4, 3};
  const auto split = static_cast<std::size_t>(4) * row_bytes_of(GetParam(), kColumns);
  const cuda::DeviceTable parts{table.bytes.data(), table.bytes.data() + split, 4, kRows};
  std::vector<float> out(ids.size() * kColumns, 1.0F);
  with_dtype(GetParam(), [&]<DType kType>() {
    for (const bool add : {false, true}) {
      launch_on_host({5, 1, 1}, 64, 0, [&] {
        cuda::gather_kernel<kType>(out.data(), parts, ids.data(), kColumns, add);
      });
    }
  });
  const Matrix once = reference::gather(table.values, ids);
  Matrix twice = once;
  for (std::int64_t r = 0; r < once.rows(); ++r) {
    for (std::int64_t c = 0; c < kColumns; ++c) twice.set(r, c, 2 * once.at(r, c));
  }
  expect_near(out, twice, 1e-6);
}

TEST_P(CudaKernels, GatherMakesAnUnknownIdNaN) {
  const Stored table = stored(3, 64, GetParam(), 1);
  const std::vector<std::int32_t> ids = {3, -1, 2};
  const cuda::DeviceTable parts{table.bytes.data(), nullptr, 3, 3};
  std::vector<float> out(ids.size() * 64);
  with_dtype(GetParam(), [&]<DType kType>() {
    launch_on_host({3, 1, 1}, 32, 0,
                   [&] { cuda::gather_kernel<kType>(out.data(), parts, ids.data(), 64, false); });
  });
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_TRUE(std::isnan(out[64 + 63]));
  EXPECT_FALSE(std::isnan(out[128]));
}

class CudaQuantizedKernels : public testing::TestWithParam<DType> {};

TEST_P(CudaQuantizedKernels, ProductsAreThoseOfTheExpandedWeights) {
  for (const std::int64_t columns : {64, 100, 31, 256}) {
    for (const int rows : {1, 3, 8}) {
      constexpr std::int64_t kOut = 13;
      const Stored weight = stored(kOut, columns, GetParam(), 2);
      const Matrix in = Matrix::random(rows, columns, DType::f32, 3);
      const std::vector<float> from = floats_of(in);
      std::vector<float> out(static_cast<std::size_t>(rows * kOut), 0.5F);
      with_dtype(GetParam(), [&]<DType kType>() {
        if constexpr (is_quantized(kType)) {
          launch_on_host({2, 1, 1}, cuda::kProductWarps * 32, 0, [&] {
            cuda::quantized_product_kernel<kType>(out.data(), kOut, from.data(), columns, rows,
                                                  weight.bytes.data(), kOut, true);
          });
        }
      });
      for (float& value : out) value -= 0.5F;
      expect_near(out, reference::linear(in, weight.values, {}, kernels::Activation::none, {}),
                  1e-4);
    }
  }
}

TEST_P(CudaQuantizedKernels, ExpandIsTheNearestHalf) {
  const Stored weight = stored(3, 100, GetParam(), 4);
  std::vector<__half> out(300);
  with_dtype(GetParam(), [&]<DType kType>() {
    if constexpr (is_quantized(kType)) {
      launch_on_host({3, 1, 1}, 64, 0,
                     [&] { cuda::expand_kernel<kType>(out.data(), weight.bytes.data(), 100); });
    }
  });
  std::vector<float> wide;
  for (const __half value : out) wide.push_back(__half2float(value));
  expect_near(wide, weight.values, 1e-3);
}

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

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaQuantizedKernels, testing::Values(DType::q8, DType::q4),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST(CudaLayerNorm, IsTheOracles) {
  for (const std::int64_t columns : {1, 31, 256, 1000}) {
    const Matrix in = Matrix::random(3, columns, DType::f32, 1);
    Matrix weight = Matrix::random(1, columns, DType::f16, 2);
    Matrix bias = Matrix::random(1, columns, DType::bf16, 3);
    const std::vector<float> from = floats_of(in);
    std::vector<float> out(from.size());
    launch_on_host({3, 1, 1}, cuda::kNormThreads, 0, [&] {
      cuda::layer_norm_kernel(out.data(), from.data(), columns, {weight.view().data, DType::f16},
                              {bias.view().data, DType::bf16}, 1e-5F);
    });
    expect_near(out, reference::layer_norm(in, weight, bias, 1e-5), 2e-5);
    launch_on_host({3, 1, 1}, cuda::kNormThreads, 0, [&] {
      cuda::layer_norm_kernel(out.data(), from.data(), columns, {nullptr, DType::f32},
                              {nullptr, DType::f32}, 1e-5F);
    });
    expect_near(out, reference::layer_norm(in, {}, {}, 1e-5), 2e-5);
  }
}

TEST(CudaEpilogue, AddsBiasActivatesAndAddsTheResidual) {
  constexpr std::int64_t kColumns = 37;
  for (const auto activation :
       {kernels::Activation::none, kernels::Activation::relu, kernels::Activation::gelu}) {
    const Matrix in = Matrix::random(5, kColumns, DType::f32, 1);
    Matrix bias = Matrix::random(1, kColumns, DType::f16, 2);
    const Matrix residual = Matrix::random(5, kColumns, DType::f32, 3);
    Matrix identity(kColumns, kColumns);
    for (std::int64_t i = 0; i < kColumns; ++i) identity.set(i, i, 1.0);
    std::vector<float> out = floats_of(in);
    const std::vector<float> rest = floats_of(residual);
    launch_on_host({2, 1, 1}, 64, 0, [&] {
      cuda::epilogue_kernel(out.data(), 5, kColumns, {bias.view().data, DType::f16}, activation,
                            rest.data());
    });
    expect_near(out, reference::linear(in, identity, bias, activation, residual), 1e-5);
  }
}

TEST(CudaSelectRows, TakesThem) {
  const Matrix in = Matrix::random(6, 50, DType::f32, 1);
  const std::vector<float> from = floats_of(in);
  const std::vector<std::int32_t> rows = {5, 0, 5};
  std::vector<float> out(150);
  launch_on_host({3, 1, 1}, 32, 0,
                 [&] { cuda::select_rows_kernel(out.data(), from.data(), rows.data(), 50); });
  expect_near(out, reference::gather(in, rows), 0);
}

TEST(CudaNarrow, RoundsToNearest) {
  const Matrix in = Matrix::random(1, 777, DType::f32, 1);
  const std::vector<float> from = floats_of(in);
  std::vector<__nv_bfloat16> out(from.size());
  launch_on_host({2, 1, 1}, 64, 0,
                 [&] { cuda::narrow_kernel(out.data(), from.data(), std::int64_t{777}); });
  for (std::size_t i = 0; i < from.size(); ++i) {
    const double wanted = reference::from_bf16(reference::to_bf16(static_cast<double>(from[i])));
    ASSERT_EQ(static_cast<double>(__bfloat162float(out[i])), wanted) << i;
  }
}

}  // namespace
}  // namespace sluice
