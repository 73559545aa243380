// RMS norm, rotary positions, scaling, soft caps, sums and wider rows on the emulated GPU, and the
// activations and products that today's models have, against the oracle in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/launches.h"
#include "tests/kernels/cuda/emulated_matrix.h"

namespace sluice {
namespace {

using emulated_test::EmulatedStream;
using emulated_test::expect_near;
using emulated_test::Numbers;
using emulated_test::OnDevice;
using emulated_test::unit_of;
using kernels::Activation;
using reference::Matrix;

constexpr DType kActivations[] = {DType::f32, DType::f16, DType::bf16};
constexpr Activation kSmooth[] = {Activation::gelu_tanh, Activation::quick_gelu, Activation::silu};

/// of(element of a, element of b).
template <class Function>
Matrix each(const Matrix& a, const Matrix& b, const Function& of) {
  Matrix result(a.rows(), a.columns());
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    for (std::int64_t c = 0; c < a.columns(); ++c) result.set(r, c, of(a.at(r, c), b.at(r, c)));
  }
  return result;
}
template <class Function>
Matrix each(const Matrix& a, const Function& of) {
  return each(a, a, [&](double value, double) { return of(value); });
}

class CudaDecoderRows : public testing::TestWithParam<DType> {};

TEST_P(CudaDecoderRows, RmsNormIsTheOracles) {
  const double tolerance = 2 * unit_of(GetParam()) + 1e-5;
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const std::int64_t width : {1, 31, 64, 72, 100, 128, 512, 520, 4096, 16384, 16392}) {
      const std::int64_t rows = width > 2000 ? 2 : 11;
      for (const DType of_weight : {GetParam(), DType::f32, DType::bf16}) {
        const OnDevice in = OnDevice::random(rows, width, GetParam(), 1);
        const OnDevice weight = OnDevice::random(1, width, of_weight, 2);
        const OnDevice out(Matrix(rows, width), GetParam());
        for (const float offset : {0.0F, 1.0F}) {
          cuda::launch_rms_norm(stream.get(), out.view(), in.view(), weight.view(), 1e-3F, offset);
          stream.finish();
          expect_near(out.now(),
                      reference::rms_norm(in.values(), weight.values(), 1e-3, double{offset}),
                      tolerance);
        }
        cuda::launch_rms_norm(stream.get(), in.view(), in.view(), {}, 1e-3F, 0);  // in place
        stream.finish();
        expect_near(in.now(), reference::rms_norm(in.values(), {}, 1e-3, 0), tolerance);
      }
    }
  }
}

TEST_P(CudaDecoderRows, RmsNormTakesRowsAndWeightsAtOddAddresses) {
  const EmulatedStream stream;
  const OnDevice in = OnDevice::random(3, 64, GetParam(), 1, 4);
  const OnDevice out(Matrix(3, 64), GetParam());
  const OnDevice weight = OnDevice::random(1, 64, DType::f16, 2, 2);
  cuda::launch_rms_norm(stream.get(), out.view(), in.view(), weight.view(), 1e-5F, 1);
  stream.finish();
  expect_near(out.now(), reference::rms_norm(in.values(), weight.values(), 1e-5, 1),
              2 * unit_of(GetParam()) + 1e-5);
}

/// Frequencies of a head, in device memory.
class Frequencies {
 public:
  explicit Frequencies(const std::vector<float>& values) : values_(values) {
    EXPECT_EQ(cudaMalloc(&data_, values.size() * sizeof(float)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, values.data(), values.size() * sizeof(float), cudaMemcpyDefault),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  ~Frequencies() { cudaFree(data_); }
  Frequencies(Frequencies&&) = delete;
  const float* on_device() const { return static_cast<const float*>(data_); }
  const float* on_host() const { return values_.data(); }

 private:
  std::vector<float> values_;
  void* data_ = nullptr;
};

/// Of pairs `count`, then the same for positions below zero, twice as slow.
std::vector<float> two_lists(int count) {
  std::vector<float> values;
  for (const double slower : {1.0, 2.0}) {
    for (int i = 0; i < count; ++i) {
      values.push_back(static_cast<float>(std::pow(10000.0, -1.0 * i / count) / slower));
    }
  }
  return values;
}

TEST_P(CudaDecoderRows, RotateIsTheOracles) {
  // Positions below zero mean their complement, by the second list.
  const std::vector<std::int32_t> positions = {0, 1, 7, 4095, 131071, ~0, ~5, ~131071};
  const Numbers numbers(positions);
  const auto rows = static_cast<std::int64_t>(positions.size());
  struct Case {
    std::int32_t head_dim, width, heads;
  };
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const Case& one : {Case{64, 64, 3}, Case{64, 16, 12}, Case{80, 32, 1}, Case{128, 128, 9},
                            Case{6, 2, 2}, Case{256, 256, 1}, Case{96, 80, 17}}) {
      const Frequencies frequencies(two_lists(one.width / 2));
      for (const bool neighbours : {false, true}) {
        for (const float factor : {1.0F, 1.25F}) {
          kernels::Rotation rotation{one.head_dim, one.width, neighbours, factor,
                                     frequencies.on_device()};
          const OnDevice in =
              OnDevice::random(rows, std::int64_t{one.head_dim} * one.heads, GetParam(), 3);
          cuda::launch_rotate(stream.get(), in.view(), rotation, numbers.data());
          stream.finish();
          rotation.frequencies = frequencies.on_host();
          expect_near(in.now(), reference::rotate(in.values(), rotation, positions),
                      2 * unit_of(GetParam()));
        }
      }
    }
  }
}

TEST_P(CudaDecoderRows, ScaleAndSoftCapAndSumAreTheOracles) {
  const EmulatedStream stream;
  for (const std::int64_t width : {1, 37, 64, 2056}) {
    for (const std::size_t offset : {0, 4}) {
      const OnDevice rows = OnDevice::random(3, width, GetParam(), 1, offset);
      cuda::launch_scale(stream.get(), rows.view(), 45.25F);
      stream.finish();
      expect_near(rows.now(), each(rows.values(), [](double value) { return 45.25 * value; }),
                  unit_of(GetParam()));
      const OnDevice scores(each(rows.values(), [](double value) { return 50 * value; }),
                            GetParam(), offset);
      cuda::launch_soft_cap(stream.get(), scores.view(), 30);
      stream.finish();
      expect_near(scores.now(),
                  each(scores.values(), [](double value) { return 30 * std::tanh(value / 30); }),
                  unit_of(GetParam()));
      const OnDevice out = OnDevice::random(3, width, GetParam(), 2, offset);
      cuda::launch_epilogue(stream.get(), cuda::Columns::of(out.view()),
                            cuda::Columns::of(out.view()),
                            {{}, Activation::none, cuda::Columns::of(rows.view())});
      stream.finish();
      expect_near(out.now(), each(out.values(), rows.now(), std::plus<double>()),
                  unit_of(GetParam()));
    }
  }
}

TEST_P(CudaDecoderRows, SoftCapKeepsNaNAndLimits) {
  const EmulatedStream stream;
  const double infinity = std::numeric_limits<double>::infinity();
  Matrix values(1, 5);
  const double given[5] = {std::nan(""), infinity, -infinity, 0, 1e4};
  for (std::int64_t c = 0; c < 5; ++c) values.set(0, c, given[c]);
  const OnDevice rows(values, GetParam());
  cuda::launch_soft_cap(stream.get(), rows.view(), 32);
  stream.finish();
  const Matrix now = rows.now();
  EXPECT_TRUE(std::isnan(now.at(0, 0)));
  EXPECT_EQ(now.at(0, 1), 32);
  EXPECT_EQ(now.at(0, 2), -32);
  EXPECT_EQ(now.at(0, 3), 0);
  EXPECT_EQ(now.at(0, 4), 32);
}

TEST_P(CudaDecoderRows, WidenedRowsHaveZerosBehind) {
  const EmulatedStream stream;
  for (const auto& [from, to] :
       {std::pair{64, 128}, std::pair{64, 64}, std::pair{31, 40}, std::pair{1, 2056}}) {
    for (const std::size_t offset : {0, 4}) {
      const OnDevice in = OnDevice::random(3, from, GetParam(), 1, offset);
      const OnDevice out = OnDevice::random(3, to, GetParam(), 2);
      cuda::launch_widen_rows(stream.get(), out.view(), in.view());
      stream.finish();
      Matrix wanted(3, to);
      for (std::int64_t r = 0; r < 3; ++r) {
        for (std::int64_t c = 0; c < from; ++c) wanted.set(r, c, in.values().at(r, c));
      }
      expect_near(out.now(), wanted, 0);
    }
  }
}

/// activation(from + bias), by the oracle of products.
Matrix finished(const Matrix& from, const Matrix& bias, Activation activation) {
  Matrix identity(from.columns(), from.columns());
  for (std::int64_t i = 0; i < from.columns(); ++i) identity.set(i, i, 1.0);
  return reference::linear(from, identity, bias, activation, {});
}

TEST_P(CudaDecoderRows, EpilogueActivatesAndMultiplies) {
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const Activation activation : kSmooth) {
      for (const std::int64_t width : {37, 64}) {
        const OnDevice from = OnDevice::random(5, width, DType::f32, 1);
        const OnDevice bias = OnDevice::random(1, width, DType::f16, 2);
        const OnDevice factor = OnDevice::random(5, width, GetParam(), 3);
        const OnDevice out(Matrix(5, width), GetParam());
        const Matrix activated = finished(from.values(), bias.values(), activation);
        using cuda::Columns;
        const auto run = [&](const OnDevice& to, const Columns& residual) {
          cuda::launch_epilogue(
              stream.get(), Columns::of(to.view()), Columns::of(from.view()),
              {Columns::of(bias.view()), activation, residual, cuda::Combine::multiply});
          stream.finish();
        };
        run(out, {});
        expect_near(out.now(), activated, unit_of(GetParam()));
        const Matrix wanted = each(activated, factor.values(), std::multiplies<double>());
        run(out, Columns::of(factor.view()));
        expect_near(out.now(), wanted, unit_of(GetParam()));
        run(factor, Columns::of(factor.view()));  // what is overwritten
        expect_near(factor.now(), wanted, unit_of(GetParam()));
      }
    }
  }
}

TEST_P(CudaDecoderRows, SmoothActivationsKeepNaNAndLimits) {
  const EmulatedStream stream;
  const double infinity = std::numeric_limits<double>::infinity();
  Matrix values(1, 8);
  const double given[8] = {std::nan(""), infinity, -infinity, -6e4, 6e4, 0, -1, 1};
  for (std::int64_t c = 0; c < 8; ++c) values.set(0, c, given[c]);
  for (const Activation activation : kSmooth) {
    const OnDevice out(values, GetParam());
    cuda::launch_epilogue(stream.get(), cuda::Columns::of(out.view()),
                          cuda::Columns::of(out.view()), {{}, activation, {}});
    stream.finish();
    const Matrix now = out.now();
    EXPECT_TRUE(std::isnan(now.at(0, 0)));
    EXPECT_EQ(now.at(0, 1), infinity);
    EXPECT_EQ(now.at(0, 2), 0.0);
    EXPECT_EQ(now.at(0, 3), 0.0);
    EXPECT_EQ(now.at(0, 4), out.values().at(0, 4));
    EXPECT_EQ(now.at(0, 5), 0.0);
    EXPECT_LT(now.at(0, 6), -0.1);
    EXPECT_GT(now.at(0, 7), 0.7);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaDecoderRows, testing::ValuesIn(kActivations),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST(CudaKernelWork, CountsWhatTheOperationsOfDecodersMove) {
  const TensorView in{nullptr, DType::f16, 10, 64};
  const TensorView wide{nullptr, DType::f16, 10, 96};
  const TensorView vector{nullptr, DType::f32, 1, 64};
  EXPECT_EQ(cuda::rms_norm_work(in, vector).bytes, 2 * 10 * 64 * 2 + 64 * 4);
  EXPECT_EQ(cuda::rotate_work(in, {32, 8, false, 1, nullptr}).bytes, 2 * 10 * 2 * 8 * 2);
  EXPECT_EQ(cuda::map_work(in).bytes, 2 * 10 * 64 * 2);
  EXPECT_EQ(cuda::widen_rows_work(wide, in).bytes, 10 * (64 + 96) * 2);
}

}  // namespace
}  // namespace sluice
