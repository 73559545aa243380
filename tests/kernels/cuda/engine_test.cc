// The CUDA engine on a real GPU, every operation against the oracle. Skipped, visibly, where there
// is none.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda_plugin.h"
#include "kernels/engine.h"
#include "kernels/group_quantize.h"
#include "tests/support/reference_ops.h"

namespace sluice {
namespace {

using kernels::Activation;
using reference::Matrix;

/// One engine for all tests: making one takes a second.
struct Gpu {
  kernels::Engine engine;
  std::string reason;
};

Gpu& gpu() {
  static Gpu* const one = [] {
    auto* made = new Gpu;
    kernels::EngineOptions options;
    options.device = "cuda";
    try {
      made->engine = kernels::make_cuda_engine(options);
    } catch (const kernels::CudaUnavailable& unavailable) {
      made->reason = unavailable.reason;
    }
    return made;
  }();
  return *one;
}

/// Bytes on the device that go with the test.
class OnDevice {
 public:
  OnDevice(const void* bytes, std::size_t count)
      : memory_(gpu().engine.backend->allocate_device(count)) {
    Backend& backend = *gpu().engine.backend;
    backend.copy(Lane::compute, memory_.data(), bytes, count);
    backend.synchronize(backend.record(Lane::compute));
  }
  explicit OnDevice(const std::vector<std::int32_t>& values)
      : OnDevice(values.data(), values.size() * sizeof(std::int32_t)) {}
  explicit OnDevice(const Matrix& matrix)
      : OnDevice(matrix.bytes().data(), matrix.bytes().size()) {}

  std::byte* data() const { return memory_.data(); }
  const std::int32_t* integers() const {
    return reinterpret_cast<const std::int32_t*>(memory_.data());
  }

 private:
  Memory memory_;
};

Matrix read_back(const void* device, std::int64_t rows, std::int64_t columns) {
  Backend& backend = *gpu().engine.backend;
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  backend.wait(Lane::device_to_host, backend.record(Lane::compute));
  backend.copy(Lane::device_to_host, values.data(), device, values.size() * sizeof(float));
  backend.synchronize(backend.record(Lane::device_to_host));
  Matrix matrix(rows, columns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    matrix.set(at / columns, at % columns, static_cast<double>(values[i]));
  }
  return matrix;
}

void expect_near(const Matrix& got, const Matrix& wanted, double tolerance) {
  for (std::int64_t r = 0; r < wanted.rows(); ++r) {
    for (std::int64_t c = 0; c < wanted.columns(); ++c) {
      ASSERT_NEAR(got.at(r, c), wanted.at(r, c), tolerance) << "row " << r << ", column " << c;
    }
  }
}

struct Stored {
  std::vector<std::byte> bytes;
  Matrix values;  // what the bytes stand for
};

Stored stored(std::int64_t rows, std::int64_t columns, DType dtype, std::uint64_t seed) {
  const Matrix exact =
      Matrix::random(rows, columns, is_quantized(dtype) ? DType::f32 : dtype, seed);
  if (!is_quantized(dtype)) return {exact.bytes(), exact};
  Stored result{
      std::vector<std::byte>(static_cast<std::size_t>(rows) * row_bytes_of(dtype, columns)),
      Matrix(rows, columns)};
  kernels::quantize_rows(DType::f32, exact.bytes().data(), rows, columns, dtype,
                         result.bytes.data());
  std::vector<float> read(static_cast<std::size_t>(rows * columns));
  kernels::dequantize_rows(dtype, result.bytes.data(), rows, columns, read.data());
  for (std::size_t i = 0; i < read.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    result.values.set(at / columns, at % columns, static_cast<double>(read[i]));
  }
  return result;
}

class CudaEngine : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!gpu().engine.backend) GTEST_SKIP() << "CUDA backend unavailable: " << gpu().reason;
  }
  static kernels::Ops& ops() { return *gpu().engine.device_ops; }
};

/// Of products of weights and inputs rounded to the weights' dtype (bf16: 8 bits) over k terms.
double tolerance_of(DType dtype, std::int64_t k) {
  const double unit = dtype == DType::f32 ? 1e-6 : dtype == DType::bf16 ? 1e-2 : 2e-3;
  return unit * std::sqrt(static_cast<double>(k));
}

TEST_P(CudaEngine, LinearIsTheOracles) {
  for (const std::int64_t rows : {1, 7, 40}) {
    for (const std::int64_t k : {64, 100, 768}) {
      constexpr std::int64_t kOut = 50;
      const Stored weight = stored(kOut, k, GetParam(), 1);
      Matrix in = Matrix::random(rows, k, DType::f32, 2);
      Matrix bias = Matrix::random(1, kOut, DType::f16, 3);
      Matrix residual = Matrix::random(rows, kOut, DType::f32, 4);
      const OnDevice w(weight.bytes.data(), weight.bytes.size());
      const OnDevice x(in);
      const OnDevice b(bias);
      const OnDevice r(residual);
      const TensorView out{r.data(), DType::f32, rows, kOut};
      const std::size_t row_bytes = row_bytes_of(GetParam(), k);
      const SplitMatrix split{{w.data(), GetParam(), 20, k},
                              {w.data() + 20 * row_bytes, GetParam(), kOut - 20, k}};
      ops().linear(out, {x.data(), DType::f32, rows, k}, split, {b.data(), DType::f16, 1, kOut},
                   Activation::none, out);
      expect_near(read_back(r.data(), rows, kOut),
                  reference::linear(in, weight.values, bias, Activation::none, residual),
                  tolerance_of(GetParam(), k));
      ops().linear(out, {x.data(), DType::f32, rows, k}, split, {}, Activation::gelu, {});
      expect_near(read_back(r.data(), rows, kOut),
                  reference::linear(in, weight.values, {}, Activation::gelu, {}),
                  tolerance_of(GetParam(), k));
    }
  }
}

TEST_P(CudaEngine, GatherIsTheOracles) {
  constexpr std::int64_t kColumns = 200;
  const Stored table = stored(30, kColumns, GetParam(), 5);
  const std::vector<std::int32_t> ids = {29, 0, 17, 16, 16};
  const OnDevice rows(table.bytes.data(), table.bytes.size());
  const OnDevice numbers(ids);
  const OnDevice out(Matrix(5, kColumns));
  const std::size_t split = 17 * row_bytes_of(GetParam(), kColumns);
  ops().gather(
      {out.data(), DType::f32, 5, kColumns},
      {{rows.data(), GetParam(), 17, kColumns}, {rows.data() + split, GetParam(), 13, kColumns}},
      numbers.integers());
  expect_near(read_back(out.data(), 5, kColumns), reference::gather(table.values, ids), 1e-6);
}

/// Two sequences, their pages interleaved, whole prompts and then a token each.
TEST_P(CudaEngine, AttentionIsTheOracles) {
  constexpr std::int32_t kQueryHeads = 6;
  constexpr std::int32_t kKvHeads = 2;
  constexpr std::int32_t kDim = 64;
  constexpr std::int64_t kWidth = kQueryHeads * kDim;
  constexpr std::int64_t kKvWidth = kKvHeads * kDim;
  const std::vector<std::int32_t> contexts = {150, 37};
  kernels::KvPages cache;
  cache.dtype = GetParam();
  cache.page_tokens = 16;
  cache.kv_heads = kKvHeads;
  cache.head_dim = kDim;
  cache.page_stride_bytes = static_cast<std::int64_t>(cache.page_bytes());
  const std::vector<std::byte> zeros(20 * cache.page_bytes());
  const OnDevice pool(zeros.data(), zeros.size());
  cache.base = pool.data();
  std::vector<std::int32_t> pages(20);
  for (std::int32_t i = 0; i < 10; ++i) {
    pages[static_cast<std::size_t>(i)] = 2 * i;
    pages[static_cast<std::size_t>(10 + i)] = 19 - 2 * i;
  }
  const Matrix keys = Matrix::random(187, kKvWidth, DType::f32, 6);
  const Matrix values = Matrix::random(187, kKvWidth, DType::f32, 7);
  const Matrix query = Matrix::random(187, kWidth, DType::f32, 8);
  const OnDevice k(keys);
  const OnDevice v(values);
  const OnDevice q(query);
  const OnDevice out(Matrix(187, kWidth));
  const OnDevice device_pages(pages);
  const OnDevice first(std::vector<std::int32_t>{0, 150});
  const OnDevice count(contexts);
  kernels::KvBatch batch;
  batch.sequences = 2;
  batch.max_pages = 10;
  batch.first_row = first.integers();
  batch.new_tokens = count.integers();
  batch.context = count.integers();
  batch.pages = device_pages.integers();
  const TensorView all{out.data(), DType::f32, 187, kWidth};
  ops().append_kv(cache, batch, {k.data(), DType::f32, 187, kKvWidth},
                  {v.data(), DType::f32, 187, kKvWidth});
  ops().attention(all, {q.data(), DType::f32, 187, kWidth}, cache, batch, {0.125F});
  const Matrix got = read_back(out.data(), 187, kWidth);
  const double tolerance = GetParam() == DType::f32   ? 1e-5
                           : GetParam() == DType::f16 ? 2e-3
                           : GetParam() == DType::q4  ? 0.3
                                                      : 2e-2;
  std::int64_t begin = 0;
  for (const std::int32_t tokens : contexts) {
    Matrix part[3] = {Matrix(tokens, kWidth), Matrix(tokens, kKvWidth), Matrix(tokens, kKvWidth)};
    const Matrix* const whole[3] = {&query, &keys, &values};
    for (int m = 0; m < 3; ++m) {
      for (std::int64_t r = 0; r < tokens; ++r) {
        for (std::int64_t c = 0; c < part[m].columns(); ++c) {
          part[m].set(r, c, whole[m]->at(begin + r, c));
        }
      }
    }
    const Matrix wanted = reference::attention(part[0], part[1], part[2], kQueryHeads, 0.125);
    for (std::int64_t r = 0; r < tokens; ++r) {
      for (std::int64_t c = 0; c < kWidth; ++c) {
        ASSERT_NEAR(got.at(begin + r, c), wanted.at(r, c), tolerance) << r << " " << c;
      }
    }
    begin += tokens;
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaEngine,
                         testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

class CudaLanes : public testing::Test {
 protected:
  void SetUp() override {
    if (!gpu().engine.backend) GTEST_SKIP() << "CUDA backend unavailable: " << gpu().reason;
  }
};

/// Floats that the host lane adds one to, and whether they are pinned.
void count_on_both_sides(Backend& backend, std::size_t count, bool pinned) {
  const std::size_t bytes = count * sizeof(float);
  const Memory source = backend.allocate_host(bytes, pinned);
  const Memory target = backend.allocate_host(bytes, pinned);
  const Memory device = backend.allocate_device(bytes);
  auto values = std::span(reinterpret_cast<float*>(source.data()), count);
  const auto* const got = reinterpret_cast<const float*>(target.data());
  std::fill(values.begin(), values.end(), 0.0F);
  for (int round = 0; round < 100; ++round) {
    backend.call(
        Lane::host_compute,
        [](void* argument) {
          for (float& value : *static_cast<std::span<float>*>(argument)) value += 1.0F;
        },
        &values);
    backend.wait(Lane::host_to_device, backend.record(Lane::host_compute));
    backend.copy(Lane::host_to_device, device.data(), source.data(), bytes);
    backend.wait(Lane::device_to_host, backend.record(Lane::host_to_device));
    backend.copy(Lane::device_to_host, target.data(), device.data(), bytes);
    const Event back = backend.record(Lane::device_to_host);
    backend.wait(Lane::host_compute, back);
    backend.synchronize(back);
    ASSERT_EQ(got[0], static_cast<float>(round + 1));
    ASSERT_EQ(got[count - 1], static_cast<float>(round + 1));
  }
}

TEST_F(CudaLanes, StreamsWaitForTheHostLane) {
  Backend& backend = *gpu().engine.backend;
  for (const std::size_t count : {std::size_t{1000}, std::size_t{1} << 20}) {
    SCOPED_TRACE(count);
    count_on_both_sides(backend, count, true);
  }
}

TEST_F(CudaLanes, StreamsWaitForTheHostLaneOfMemoryThatIsNotPinned) {
  kernels::EngineOptions options;
  options.device = "cuda";
  const kernels::Engine engine = kernels::make_cuda_engine(options);
  for (const std::size_t count : {std::size_t{1000}, std::size_t{1} << 20}) {
    SCOPED_TRACE(count);
    count_on_both_sides(*engine.backend, count, false);
  }
}

TEST_F(CudaLanes, OldEventsAreLongPast) {
  Backend& backend = *gpu().engine.backend;
  const Event first = backend.record(Lane::compute);
  for (int i = 0; i < 10000; ++i) backend.record(Lane::compute);
  EXPECT_TRUE(backend.done(first));
  backend.synchronize(first);
  backend.wait(Lane::host_to_device, first);
}

}  // namespace
}  // namespace sluice
