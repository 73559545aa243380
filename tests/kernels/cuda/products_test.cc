// Products on the emulated GPU and its cuBLASLt, against the oracle in double precision: every
// dtype of activations and weights, odd shapes, splits and addresses, all that may follow a
// product.
#include "kernels/cuda/products.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>

#include "kernels/cuda/launches.h"
#include "tests/kernels/cuda/emulated_matrix.h"
#include "tests/support/cuda_emulation/matmul.h"

namespace sluice {
namespace {

using cuda::ProductRules;
using cuda::Products;
using emulated_test::EmulatedStream;
using emulated_test::expect_near;
using emulated_test::OnDevice;
using emulated_test::unit_of;
using kernels::Activation;
using reference::Matrix;

class Workspace {
 public:
  Workspace() { EXPECT_EQ(cudaMalloc(&data_, Products::kWorkspaceBytes), cudaSuccess); }
  ~Workspace() { cudaFree(data_); }
  Workspace(Workspace&&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
};

/// Of activations and of weights.
class CudaProducts : public testing::TestWithParam<std::tuple<DType, DType>> {
 protected:
  static DType activations() { return std::get<0>(GetParam()); }
  static DType weights() { return std::get<1>(GetParam()); }

  /// Results and both operands are rounded; sums of `depth` products of about 1/3 each.
  static double tolerance(DType out, std::int64_t depth) {
    double unit = unit_of(out);
    unit = std::max(unit, is_quantized(weights()) ? 0 : unit_of(weights()));
    // Expanded weights of f32 activations are f16.
    if (is_quantized(weights())) unit = std::max({unit, unit_of(activations()), 0x1p-11});
    return 2 * unit * std::sqrt(static_cast<double>(depth));
  }
};

struct Case {
  std::int64_t rows;
  std::int64_t depth;
  std::int64_t columns;
  std::int64_t resident;
};

TEST_P(CudaProducts, LinearIsTheOracles) {
  const Workspace workspace;
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    Products products(workspace.data());
    for (const Case& one : {Case{1, 256, 24, 24}, Case{1, 100, 13, 5}, Case{3, 64, 16, 8},
                            Case{5, 31, 9, 0}, Case{17, 128, 40, 16}, Case{20, 72, 33, 7}}) {
      for (const DType out_dtype : {activations(), DType::f32}) {
        const OnDevice weight = OnDevice::random(one.columns, one.depth, weights(), 1);
        const OnDevice in = OnDevice::random(one.rows, one.depth, activations(), 2);
        const OnDevice bias = OnDevice::random(1, one.columns, activations(), 3);
        const OnDevice out = OnDevice::random(one.rows, one.columns, out_dtype, 4);
        const double near = tolerance(out_dtype, one.depth);
        products.linear(stream.get(), out.view(), in.view(), weight.split(one.resident),
                        bias.view(), Activation::none, out.view());
        stream.finish();
        expect_near(out.now(),
                    reference::linear(in.values(), weight.values(), bias.values(), Activation::none,
                                      out.values()),
                    near);
        for (const auto activation : {Activation::none, Activation::relu, Activation::gelu}) {
          products.linear(stream.get(), out.view(), in.view(), weight.split(one.resident),
                          bias.view(), activation, {});
          stream.finish();
          expect_near(
              out.now(),
              reference::linear(in.values(), weight.values(), bias.values(), activation, {}), near);
        }
      }
    }
  }
}

TEST_P(CudaProducts, EverythingThatMayFollowAProduct) {
  const Workspace workspace;
  const EmulatedStream stream;
  constexpr std::int64_t kDepth = 64;
  constexpr std::int64_t kColumns = 24;
  const OnDevice weight = OnDevice::random(kColumns, kDepth, weights(), 1);
  for (const bool cublas_relu : {false, true}) {
    Products products(workspace.data(), {.cublas_relu = cublas_relu});
    for (const std::int64_t rows : {1, 20}) {
      const OnDevice in = OnDevice::random(rows, kDepth, activations(), 2);
      for (const DType bias_dtype : {DType::f32, DType::f16, DType::bf16}) {
        const OnDevice bias = OnDevice::random(1, kColumns, bias_dtype, 3);
        for (const auto activation :
             {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_tanh,
              Activation::quick_gelu, Activation::silu}) {
          const OnDevice residual = OnDevice::random(rows, kColumns, activations(), 4);
          const OnDevice out(Matrix(rows, kColumns), activations());
          const Matrix wanted = reference::linear(in.values(), weight.values(), bias.values(),
                                                  activation, residual.values());
          const double near = tolerance(activations(), kDepth);
          for (const TensorView& to : {out.view(), residual.view()}) {
            products.linear(stream.get(), to, in.view(), weight.split(8), bias.view(), activation,
                            residual.view());
          }
          stream.finish();
          expect_near(out.now(), wanted, near);
          expect_near(residual.now(), wanted, near);
        }
      }
    }
  }
}

/// The second product of a gated MLP, whose factor is overwritten or not, by every way there is.
TEST_P(CudaProducts, LinearTimesIsTheOracles) {
  const Workspace workspace;
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const std::size_t piece_bytes : {~std::size_t{0}, std::size_t{900}}) {
      ProductRules rules = cuda::rules_of_device();
      rules.multiprocessors = 4;  // splits of 2048 columns
      rules.piece_bytes = piece_bytes;
      Products products(workspace.data(), rules);
      for (const Case& one : {Case{1, 256, 24, 24}, Case{1, 100, 13, 5}, Case{5, 31, 9, 0},
                              Case{6, 2048, 24, 10}, Case{20, 72, 33, 7}, Case{70, 64, 24, 24}}) {
        const OnDevice weight = OnDevice::random(one.columns, one.depth, weights(), 1);
        const OnDevice in = OnDevice::random(one.rows, one.depth, activations(), 2);
        const OnDevice bias = OnDevice::random(1, one.columns, activations(), 3);
        const OnDevice factor = OnDevice::random(one.rows, one.columns, activations(), 4);
        const OnDevice out = OnDevice::random(one.rows, one.columns, activations(), 5);
        for (const bool biased : {true, false}) {
          const Matrix product =
              reference::linear(in.values(), weight.values(), biased ? bias.values() : Matrix(),
                                Activation::none, {});
          Matrix wanted(one.rows, one.columns);
          for (std::int64_t r = 0; r < one.rows; ++r) {
            for (std::int64_t c = 0; c < one.columns; ++c) {
              wanted.set(r, c, product.at(r, c) * factor.values().at(r, c));
            }
          }
          const auto multiply = [&](const OnDevice& to) {
            products.linear(stream.get(), to.view(), in.view(), weight.split(one.resident),
                            biased ? bias.view() : TensorView{}, Activation::none, factor.view(),
                            cuda::Combine::multiply);
            stream.finish();
            expect_near(to.now(), wanted, tolerance(activations(), one.depth));
          };
          multiply(out);
          if (!biased) multiply(factor);
        }
      }
    }
  }
}

TEST_P(CudaProducts, OperandsAtOddAddresses) {
  const Workspace workspace;
  const EmulatedStream stream;
  Products products(workspace.data());
  for (const std::int64_t rows : {1, 3, 20}) {
    const OnDevice weight = OnDevice::random(24, 64, weights(), 1, 4);
    const OnDevice in = OnDevice::random(rows, 64, activations(), 2, 4);
    const OnDevice bias = OnDevice::random(1, 24, activations(), 3, 4);
    const OnDevice out = OnDevice::random(rows, 24, activations(), 4, 4);
    products.linear(stream.get(), out.view(), in.view(), weight.split(24), bias.view(),
                    Activation::none, out.view());
    stream.finish();
    expect_near(out.now(),
                reference::linear(in.values(), weight.values(), bias.values(), Activation::none,
                                  out.values()),
                tolerance(activations(), 64));
  }
}

/// Inputs, weights and results that go through the workspace in pieces.
TEST_P(CudaProducts, PiecesOfTheWorkspace) {
  const Workspace workspace;
  const EmulatedStream stream;
  const OnDevice weight = OnDevice::random(20, 64, weights(), 1);
  const OnDevice in = OnDevice::random(23, 64, activations(), 2);
  const OnDevice bias = OnDevice::random(1, 20, DType::f16, 3);
  for (const std::size_t piece_bytes : {std::size_t{1}, std::size_t{900}}) {
    Products products(workspace.data(), {.piece_bytes = piece_bytes});
    for (const auto activation : {Activation::none, Activation::relu}) {
      const OnDevice out = OnDevice::random(23, 20, activations(), 4);
      products.linear(stream.get(), out.view(), in.view(), weight.split(9), bias.view(), activation,
                      out.view());
      stream.finish();
      expect_near(
          out.now(),
          reference::linear(in.values(), weight.values(), bias.values(), activation, out.values()),
          tolerance(activations(), 64));
    }
  }
}

/// cuBLASLt may have no algorithm for an epilogue, or for a product at all.
TEST_P(CudaProducts, WhatTheLibraryCannotDoIsOurs) {
  const Workspace workspace;
  const EmulatedStream stream;
  const OnDevice weight = OnDevice::random(24, 64, weights(), 1);
  const OnDevice in = OnDevice::random(20, 64, activations(), 2);
  const OnDevice bias = OnDevice::random(1, 24, activations(), 3);
  for (const unsigned refused : {4U, 7U}) {  // bias; everything
    emulated::refused_epilogues = refused;
    Products products(workspace.data(), {.cublas_relu = true});
    for (const auto activation : {Activation::none, Activation::relu, Activation::gelu}) {
      const OnDevice out = OnDevice::random(20, 24, activations(), 4);
      products.linear(stream.get(), out.view(), in.view(), weight.split(16), bias.view(),
                      activation, out.view());
      stream.finish();
      expect_near(
          out.now(),
          reference::linear(in.values(), weight.values(), bias.values(), activation, out.values()),
          tolerance(activations(), 64));
    }
  }
  emulated::refused_epilogues = 0;
}

/// Every kernel of ours does any number of rows.
TEST_P(CudaProducts, OurOwnKernelsAlone) {
  const Workspace workspace;
  const EmulatedStream stream;
  Products products(workspace.data(), {.few_rows = 1000, .quantized_rows = 1000});
  for (const std::int64_t depth : {48, 320, 768, 1288}) {
    const OnDevice weight = OnDevice::random(15, depth, weights(), 1);
    for (const std::int64_t rows : {1, 2, 4, 7, 11}) {
      const OnDevice in = OnDevice::random(rows, depth, activations(), 2);
      const OnDevice residual = OnDevice::random(rows, 15, activations(), 3);
      const OnDevice out(Matrix(rows, 15), activations());
      products.linear(stream.get(), out.view(), in.view(), weight.split(6), {}, Activation::gelu,
                      residual.view());
      stream.finish();
      expect_near(
          out.now(),
          reference::linear(in.values(), weight.values(), {}, Activation::gelu, residual.values()),
          tolerance(activations(), depth));
    }
  }
  EXPECT_EQ(products.library().asked(), 0U);
}

std::string names(const testing::TestParamInfo<std::tuple<DType, DType>>& info) {
  return std::string(name_of(std::get<0>(info.param))) + "_by_" +
         std::string(name_of(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaProducts,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16),
                                          testing::Values(DType::f32, DType::f16, DType::bf16,
                                                          DType::q8, DType::q4)),
                         names);

TEST(CudaProduct, KeepsNaN) {
  const Workspace workspace;
  const EmulatedStream stream;
  for (const DType weight_dtype : {DType::f16, DType::q8}) {
    for (const std::int64_t rows : {1, 3, 20}) {
      for (const auto activation : {Activation::none, Activation::relu, Activation::gelu}) {
        Products products(workspace.data());
        const OnDevice weight = OnDevice::random(8, 64, weight_dtype, 1);
        Matrix values = Matrix::random(rows, 64, DType::f16, 2);
        values.set(rows - 1, 5, std::nan(""));
        const OnDevice in(values, DType::f16);
        const OnDevice bias = OnDevice::random(1, 8, DType::f16, 3);
        const OnDevice out(Matrix(rows, 8), DType::f16);
        products.linear(stream.get(), out.view(), in.view(), weight.split(4), bias.view(),
                        activation, {});
        stream.finish();
        const Matrix now = out.now();
        for (std::int64_t c = 0; c < 8; ++c) {
          EXPECT_TRUE(std::isnan(now.at(rows - 1, c)));
          EXPECT_EQ(std::isnan(now.at(0, c)), rows == 1);
        }
      }
    }
  }
}

/// For measuring: 16-bit fc1 of many rows then has no pass of ours over its result.
TEST(CudaProduct, TheEnvironmentLeavesReluToTheLibrary) {
  cuda::ProductShape shape;
  shape.rows = 512;
  shape.columns = shape.depth = 64;
  shape.in = shape.weight = shape.out = DType::f16;
  shape.bias = DType::f16;
  shape.activation = Activation::relu;
  for (const char* const value : {"", "0", "1"}) {
    if (*value != 0) {
      ASSERT_EQ(setenv("SLUICE_CUDA_LIBRARY_RELU", value, 1), 0);
    }
    const ProductRules rules = cuda::rules_of_device();
    unsetenv("SLUICE_CUDA_LIBRARY_RELU");
    EXPECT_EQ(rules.cublas_relu, *value == '1');
    EXPECT_EQ(plan_product(shape, rules).has_tail(), *value != '1');
  }
}

TEST(CudaProduct, AsksTheHeuristicOncePerShapeAndAlignment) {
  const Workspace workspace;
  const EmulatedStream stream;
  Products products(workspace.data());
  const OnDevice weight = OnDevice::random(16, 64, DType::f16, 1);
  const OnDevice in = OnDevice::random(12, 64, DType::f16, 2);
  const OnDevice out(Matrix(12, 16), DType::f16);
  const auto multiply = [&](const TensorView& to, const TensorView& from) {
    products.linear(stream.get(), to, from, weight.split(16), {}, Activation::none, {});
  };
  for (int i = 0; i < 5; ++i) multiply(out.view(), in.view());
  EXPECT_EQ(products.library().asked(), 1U);
  multiply(out.view().slice(0, 6), in.view().slice(0, 6));
  EXPECT_EQ(products.library().asked(), 2U);
  multiply(out.view().slice(1, 6), in.view().slice(2, 6));  // out is aligned to 32 bytes
  EXPECT_EQ(products.library().asked(), 3U);
  multiply(out.view().slice(8, 4), in.view().slice(8, 4));
  multiply(out.view(), in.view());
  EXPECT_EQ(products.library().asked(), 4U);
  stream.finish();
}

/// The first call of a shape asks the heuristic inside a capture; the graph multiplies every time.
TEST(CudaProduct, CanBeCaptured) {
  const Workspace workspace;
  const EmulatedStream stream;
  Products products(workspace.data());
  const OnDevice weight = OnDevice::random(16, 64, DType::q8, 1);
  const OnDevice in = OnDevice::random(20, 64, DType::f16, 2);
  const OnDevice out(Matrix(20, 16), DType::f16);
  const auto multiply = [&] {
    products.linear(stream.get(), out.view(), in.view(), weight.split(16), {}, Activation::gelu,
                    out.view());
  };
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  multiply();
  ASSERT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&ready, graph, 0), cudaSuccess);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(ready, stream.get()), cudaSuccess);
  stream.finish();
  Matrix once = reference::linear(in.values(), weight.values(), {}, Activation::gelu, {});
  expect_near(out.now(),
              reference::linear(in.values(), weight.values(), {}, Activation::gelu, once), 0x1p-7);
  cudaGraphExecDestroy(ready);
  cudaGraphDestroy(graph);
}

/// Biases of two layers of one shape share a recipe, but each has its own.
TEST(CudaProduct, ARecipeTakesEveryBias) {
  const Workspace workspace;
  const EmulatedStream stream;
  Products products(workspace.data());
  const OnDevice weight = OnDevice::random(16, 64, DType::f16, 1);
  const OnDevice in = OnDevice::random(3, 64, DType::f16, 2);
  for (const std::uint64_t seed : {3U, 4U}) {
    const OnDevice bias = OnDevice::random(1, 16, DType::f16, seed);
    const OnDevice out(Matrix(3, 16), DType::f16);
    products.linear(stream.get(), out.view(), in.view(), weight.split(16), bias.view(),
                    Activation::none, {});
    stream.finish();
    expect_near(
        out.now(),
        reference::linear(in.values(), weight.values(), bias.values(), Activation::none, {}),
        0x1p-8);
  }
  EXPECT_EQ(products.library().asked(), 1U);
}

TEST(CudaProduct, WorkIsBytesOfOperandsAndTwoFlopATerm) {
  const TensorView in{nullptr, DType::f16, 4, 64};
  const TensorView weight{nullptr, DType::q4, 32, 64};
  cuda::Columns out{nullptr, DType::f32, 4, 32, 32};
  const cuda::KernelWork work = cuda::product_work(out, in, weight, {});
  EXPECT_EQ(work.bytes, 32 * 36 + 4 * 64 * 2 + 4 * 32 * 4);
  EXPECT_EQ(work.flop, 2 * 4 * 32 * 64);
}

}  // namespace
}  // namespace sluice
