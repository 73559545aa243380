// Products with q8 and q4 weights on tensor cores: every number of rows, ragged blocks of weights,
// columns cut in every way, NaN, every order of threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cuda/launches.h"
#include "kernels/cuda/products.h"
#include "tests/kernels/cuda/emulated_matrix.h"
#include "tests/support/cuda_emulation/orders.h"

namespace sluice {
namespace {

using cuda::Columns;
using emulated_test::EmulatedStream;
using emulated_test::expect_near;
using emulated_test::OnDevice;
using emulated_test::unit_of;
using kernels::Activation;
using reference::Matrix;

/// On a device that has them.
bool have_tensor_cores() { return cuda::rules_of_device().tensor_cores; }

/// in weight^T, relu'd and added to what out holds; the columns in `splits`.
void multiply(const EmulatedStream& stream, const TensorView& out, const TensorView& in,
              const OnDevice& weight, const TensorView& bias, int splits) {
  const std::int64_t rows = std::min<std::int64_t>(in.rows, cuda::kTensorMostRows);
  const OnDevice parts(Matrix(splits * rows, weight.view().rows), DType::f32);
  cuda::launch_tensor_product(stream.get(), Columns::of(out), in, weight.view(),
                              {Columns::of(bias), Activation::relu, Columns::of(out)}, splits,
                              splits == 1 ? nullptr : static_cast<float*>(parts.view().data));
  stream.finish();
  parts.now();  // nothing around them was written
}

/// The dtypes of activations and of weights.
class TensorProduct : public testing::TestWithParam<std::tuple<DType, DType>> {
 protected:
  void SetUp() override {
    if (!have_tensor_cores()) GTEST_SKIP() << "no tensor cores of sm_80";
  }
  static DType activations() { return std::get<0>(GetParam()); }
  static DType weights() { return std::get<1>(GetParam()); }

  /// Codes are exact, scales and minima are applied in f32.
  static double tolerance(DType out, std::int64_t depth) {
    return unit_of(out) + 1e-5 * std::sqrt(static_cast<double>(depth));
  }

  struct Case {
    std::int64_t rows, depth, columns;
    int splits = 1;
    std::size_t offset = 0;  // of out, bytes behind an aligned address
  };
  static void expect_oracle(const Case& one, DType out_dtype, bool descending = false) {
    SCOPED_TRACE(std::to_string(one.rows) + " x " + std::to_string(one.depth) + " x " +
                 std::to_string(one.columns) + " in " + std::to_string(one.splits));
    const EmulatedStream stream(descending);
    const OnDevice weight = OnDevice::random(one.columns, one.depth, weights(), 1);
    const OnDevice in = OnDevice::random(one.rows, one.depth, activations(), 2);
    const OnDevice bias = OnDevice::random(1, one.columns, activations(), 3);
    const OnDevice out = OnDevice::random(one.rows, one.columns, out_dtype, 4, one.offset);
    multiply(stream, out.view(), in.view(), weight, bias.view(), one.splits);
    expect_near(out.now(),
                reference::linear(in.values(), weight.values(), bias.values(), Activation::relu,
                                  out.values()),
                tolerance(out_dtype, one.depth));
  }
};

TEST_P(TensorProduct, RaggedRowsOfWeights) {
  for (const std::int64_t columns : {1, 15, 127, 128, 129, 300}) {
    expect_oracle({9, 256, columns}, activations());
    expect_oracle({3, 768, columns, 2}, DType::f32, true);
  }
}

/// Every kernel that a number of rows may go to, full and with one row.
TEST_P(TensorProduct, RowsOfTheInput) {
  for (const std::int64_t rows : {1, 2, 8, 9, 16, 17, 32, 33, 63, 64, 65, 130}) {
    expect_oracle({rows, 512, 40}, activations());
    expect_oracle({rows, 512, 24, 2}, activations());
  }
}

TEST_P(TensorProduct, ColumnsOfTheWeights) {
  for (const std::int64_t parts : {1, 2, 3, 5, 8}) {
    for (const std::int64_t splits : {1, 2, 3, 8}) {
      if (splits > parts) continue;
      expect_oracle({5, parts * 256, 33, static_cast<int>(splits)}, DType::f32, parts % 2 == 1);
      if (splits < 3) expect_oracle({40, parts * 256, 8, static_cast<int>(splits)}, DType::f32);
    }
  }
}

/// Where the results of splits cannot be written by chunks.
TEST_P(TensorProduct, ResultsAtOddAddresses) {
  for (const DType out : {activations(), DType::f32}) {
    expect_oracle({4, 512, 36, 2}, out);
    expect_oracle({4, 512, 40, 2, 4}, out);
  }
  const EmulatedStream stream;
  const OnDevice weight = OnDevice::random(40, 512, weights(), 1);
  const OnDevice in = OnDevice::random(4, 512, activations(), 2);
  const OnDevice out(Matrix(4, 40), activations(), 4);
  const OnDevice parts(Matrix(2 * 4, 40), DType::f32);
  cuda::launch_tensor_product(stream.get(), Columns::of(out.view()), in.view(), weight.view(), {},
                              2, static_cast<float*>(parts.view().data));
  stream.finish();
  expect_near(out.now(), reference::linear(in.values(), weight.values(), {}, Activation::none, {}),
              tolerance(activations(), 512));
}

std::vector<std::byte> bytes_of(const Matrix& matrix) { return matrix.bytes(); }

/// A row's sums do not depend on the rows beside it.
TEST_P(TensorProduct, ARowHasTheSameBitsInAnyCompany) {
  constexpr std::int64_t kRows = 65;
  constexpr std::int64_t kColumns = 5;
  const EmulatedStream stream;
  const OnDevice weight = OnDevice::random(kColumns, 768, weights(), 1);
  const OnDevice in = OnDevice::random(kRows, 768, activations(), 2);
  const auto results = [&](std::int64_t first, std::int64_t rows) {
    const OnDevice out(Matrix(rows, kColumns), DType::f32);
    multiply(stream, out.view(), in.view().slice(first, rows), weight, {}, 2);
    return bytes_of(out.now());
  };
  const std::vector<std::byte> all = results(0, kRows);
  for (const std::int64_t rows : {1, 8, 9, 16, 17, 31, 33, 64}) {
    for (const std::int64_t first : {std::int64_t{0}, kRows - rows}) {
      const std::vector<std::byte> some = results(first, rows);
      EXPECT_EQ(std::memcmp(some.data(), all.data() + first * kColumns * 4, some.size()), 0)
          << rows << " rows from " << first;
    }
  }
}

TEST_P(TensorProduct, EveryOrderOfThreadsAndBlocks) {
  for (const std::int64_t rows : {7, 20, 40}) {
    EXPECT_TRUE(support::same_in_every_order([&] {
      cudaStream_t stream = nullptr;
      EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
      const OnDevice weight = OnDevice::random(130, 768, weights(), 1);
      const OnDevice in = OnDevice::random(rows, 768, activations(), 2);
      const OnDevice out(Matrix(rows, 130), activations());
      const OnDevice parts(Matrix(2 * rows, 130), DType::f32);
      cuda::launch_tensor_product(stream, Columns::of(out.view()), in.view(), weight.view(), {}, 2,
                                  static_cast<float*>(parts.view().data));
      EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
      return bytes_of(out.now());
    })) << rows;
  }
}

/// The same bytes in memory of their own, a multiple of 4096: what is read behind them is not
/// there.
class Alone {
 public:
  explicit Alone(const OnDevice& matrix) : view_(matrix.view()) {
    EXPECT_EQ(view_.bytes() % 4096, 0U);
    EXPECT_EQ(cudaMalloc(&view_.data, view_.bytes()), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(view_.data, matrix.view().data, view_.bytes(), cudaMemcpyDefault),
              cudaSuccess);
  }
  ~Alone() { cudaFree(view_.data); }
  Alone(Alone&&) = delete;
  const TensorView& view() const { return view_; }

 private:
  TensorView view_;
};

TEST_P(TensorProduct, NothingIsReadBehindOperands) {
  const EmulatedStream stream;
  constexpr std::int64_t kDepth = 1024;
  const OnDevice weight = OnDevice::random(64, kDepth, weights(), 1);
  const Alone weight_alone(weight);
  for (const std::int64_t rows : {6, 14, 20, 38}) {
    const OnDevice in = OnDevice::random(rows, kDepth, activations(), 2);
    const Alone in_alone(in);
    const OnDevice out(Matrix(rows, 64), DType::f32);
    const OnDevice out_alone(Matrix(rows, 64), DType::f32);
    cuda::launch_tensor_product(stream.get(), Columns::of(out.view()), in.view(), weight.view(), {},
                                1, nullptr);
    cuda::launch_tensor_product(stream.get(), Columns::of(out_alone.view()), in_alone.view(),
                                weight_alone.view(), {}, 1, nullptr);
    stream.finish();
    EXPECT_EQ(bytes_of(out.now()), bytes_of(out_alone.now())) << rows;
  }
}

/// NaN and infinity of an input are in its row's results, and in no other's; not in those of the
/// next product either, whose shared memory may still hold them.
TEST_P(TensorProduct, NaNOfInputs) {
  const EmulatedStream stream;
  const OnDevice weight = OnDevice::random(20, 512, weights(), 1);
  for (const std::int64_t rows : {3, 12, 20, 50}) {
    for (const std::int64_t column : {0, 70, 135, 511}) {
      for (const double value : {std::nan(""), std::numeric_limits<double>::infinity(), 0.0}) {
        Matrix values = Matrix::random(rows, 512, DType::f32, 2);
        values.set(rows - 1, column, value);
        const OnDevice in(values, activations());
        const OnDevice out(Matrix(rows, 20), activations());
        cuda::launch_tensor_product(stream.get(), Columns::of(out.view()), in.view(), weight.view(),
                                    {}, 1, nullptr);
        stream.finish();
        const Matrix now = out.now();
        for (std::int64_t c = 0; c < 20; ++c) {
          EXPECT_EQ(std::isfinite(now.at(rows - 1, c)), value == 0.0) << rows << ' ' << column;
          EXPECT_TRUE(std::isfinite(now.at(rows - 2, c))) << rows << ' ' << column;
          EXPECT_TRUE(std::isnan(now.at(rows - 1, c)) || !std::isnan(value));
        }
      }
    }
  }
}

/// NaN of a group's scale or minimum is in the results of its row of weights, and in no other's.
TEST_P(TensorProduct, NaNOfScales) {
  constexpr std::int64_t kDepth = 512;
  constexpr std::int64_t kGroups = kDepth / kQuantGroup;
  constexpr std::int64_t kColumns = 40;
  constexpr std::uint16_t kNaN = 0x7E00;
  const EmulatedStream stream;
  const OnDevice in = OnDevice::random(11, kDepth, activations(), 2);
  const auto row_bytes = static_cast<std::int64_t>(row_bytes_of(weights(), kDepth));
  for (const std::int64_t row : {0, 9, 17, 38}) {
    for (std::int64_t word = 0; word < 2 * kGroups; ++word) {  // scale, minimum, scale ...
      const OnDevice weight = OnDevice::random(kColumns, kDepth, weights(), 1);
      std::byte* const scales =
          static_cast<std::byte*>(weight.view().data) + (row + 1) * row_bytes - kGroups * 4;
      ASSERT_EQ(cudaMemcpy(scales + word * 2, &kNaN, 2, cudaMemcpyDefault), cudaSuccess);
      const OnDevice out(Matrix(11, kColumns), activations());
      multiply(stream, out.view(), in.view(), weight, {}, 1 + static_cast<int>(word % 2));
      const Matrix now = out.now();
      for (std::int64_t c = 0; c < kColumns; ++c) {
        for (const std::int64_t r : {0, 10}) {
          EXPECT_EQ(std::isnan(now.at(r, c)), c == row) << c << ", word " << word;
        }
      }
    }
  }
}

/// Every code: a row of weights has all that there are, and an input one element.
TEST_P(TensorProduct, EveryCode) {
  constexpr std::int64_t kDepth = 256;
  Matrix values(1, kDepth);
  const int codes = weights() == DType::q8 ? 256 : 16;
  // A group's smallest and largest value are its codes 0 and the last.
  for (std::int64_t c = 0; c < kDepth; ++c) {
    const std::int64_t of_group = c % kQuantGroup;
    const std::int64_t code = of_group == 0 ? 0 : of_group == 1 ? codes - 1 : c * 37 % codes;
    values.set(0, c, static_cast<double>(code));
  }
  const EmulatedStream stream;
  const OnDevice weight(values, weights());
  Matrix ones(kDepth, kDepth);
  for (std::int64_t c = 0; c < kDepth; ++c) ones.set(c, c, 1);
  const OnDevice in(ones, activations());
  const OnDevice out(Matrix(kDepth, 1), DType::f32);
  multiply(stream, out.view(), in.view(), weight, {}, 1);
  const Matrix now = out.now();
  for (std::int64_t c = 0; c < kDepth; ++c) {
    EXPECT_NEAR(now.at(c, 0), values.at(0, c), 1e-3) << "column " << c;
  }
}

std::string names(const testing::TestParamInfo<std::tuple<DType, DType>>& info) {
  return std::string(name_of(std::get<0>(info.param))) + "_by_" +
         std::string(name_of(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, TensorProduct,
                         testing::Combine(testing::Values(DType::f16, DType::bf16),
                                          testing::Values(DType::q8, DType::q4)),
                         names);

/// Products cuts the columns as planned, into memory that holds so many parts.
TEST(TensorProducts, SplitsGoThroughTheWorkspace) {
  if (!have_tensor_cores()) GTEST_SKIP() << "no tensor cores of sm_80";
  constexpr std::int64_t kDepth = 4096;
  constexpr std::int64_t kColumns = 24;
  void* workspace = nullptr;
  ASSERT_EQ(cudaMalloc(&workspace, cuda::Products::kWorkspaceBytes), cudaSuccess);
  const EmulatedStream stream;
  const OnDevice weight = OnDevice::random(kColumns, kDepth, DType::q4, 1);
  const OnDevice in = OnDevice::random(6, kDepth, DType::f16, 2);
  const OnDevice bias = OnDevice::random(1, kColumns, DType::f16, 3);
  for (const std::size_t pieces : {0, 1, 3, 100}) {
    const cuda::ProductRules rules{
        .tensor_cores = true,
        .multiprocessors = 132,
        .piece_bytes = pieces * cuda::kTensorMostRows * 16 * sizeof(float)};
    cuda::Products products(static_cast<std::byte*>(workspace), rules);
    const OnDevice out = OnDevice::random(6, kColumns, DType::f16, 4);
    products.linear(stream.get(), out.view(), in.view(), weight.split(8), bias.view(),
                    Activation::gelu, out.view());
    stream.finish();
    expect_near(out.now(),
                reference::linear(in.values(), weight.values(), bias.values(), Activation::gelu,
                                  out.values()),
                0x1p-10);
  }
  cudaFree(workspace);
}

}  // namespace
}  // namespace sluice
