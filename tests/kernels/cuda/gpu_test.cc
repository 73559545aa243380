// For tests that were written for the emulated GPU, on a real one: skips them all where there is
// none, and what the emulation can be told has no effect.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>

#include "kernels/cuda/library_product.h"
#include "kernels/cuda/load_kernels.h"
#include "tests/kernels/cuda/emulated_matrix.h"
#include "tests/support/cuda_emulation/block.h"
#include "tests/support/cuda_emulation/matmul.h"

namespace sluice {

namespace support {
RunOrder run_order;
}
namespace emulated {
unsigned refused_epilogues = 0;
}

namespace {

using emulated_test::EmulatedStream;
using emulated_test::OnDevice;
using reference::Matrix;

struct NeedsGpu : testing::Environment {
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) return;
    std::cout << "[  SKIPPED ] there is no GPU\n";  // what ctest looks for
    GTEST_SKIP();
  }
};
[[maybe_unused]] const auto* const needs_gpu =
    testing::AddGlobalTestEnvironment(new NeedsGpu);  // GoogleTest's own

TEST(CudaKernels, AreAllLoadedAtOnce) {
  EXPECT_GE(cuda::load_kernels(), 50);  // most are templates, for dtypes and shapes
}

/// Whether ProductRules::cublas_relu may be true. While it is false this only says what was seen.
TEST(CudaLibrary, ReluKeepsNaN) {
  const EmulatedStream stream;
  constexpr std::size_t kWorkspace = std::size_t{32} << 20;
  void* workspace = nullptr;
  ASSERT_EQ(cudaMalloc(&workspace, kWorkspace), cudaSuccess);
  cuda::LibraryProduct library(static_cast<std::byte*>(workspace), kWorkspace);
  bool kept = true;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t rows : {2, 16, 64, 300}) {
      for (const bool bias : {false, true}) {
        Matrix values = Matrix::random(rows, 256, DType::f32, 1);
        values.set(rows - 1, 7, std::nan(""));
        const OnDevice in(values, dtype);
        const OnDevice weight = OnDevice::random(512, 256, dtype, 2);
        const OnDevice add = OnDevice::random(1, 512, dtype, 3);
        const OnDevice out(Matrix(rows, 512), dtype);
        cuda::LibraryCall call;
        call.rows = rows;
        call.columns = 512;
        call.depth = 256;
        call.out_stride = 512;
        call.operand = call.result = dtype;
        call.bias = bias;
        call.relu = true;
        if (!library.run(stream.get(), call,
                         {out.view().data, in.view().data, weight.view().data,
                          bias ? add.view().data : nullptr, nullptr})) {
          continue;
        }
        stream.finish();
        const Matrix now = out.now();
        for (std::int64_t c = 0; c < 512; ++c) kept = kept && std::isnan(now.at(rows - 1, c));
      }
    }
  }
  cudaFree(workspace);
  std::cout << "cuBLASLt's ReLU " << (kept ? "kept every NaN" : "made other values of NaN") << '\n';
  EXPECT_TRUE(kept || !cuda::ProductRules{}.cublas_relu);
}

}  // namespace
}  // namespace sluice
