// The emulated cuBLASLt against products in double precision: transposes, strides, dtypes, what
// follows a product, and what the library refuses.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace sluice {
namespace {

#define ASSERT_CUBLAS(call) ASSERT_EQ(call, CUBLAS_STATUS_SUCCESS)

/// Elements of one dtype in device memory.
class Elements {
 public:
  Elements(cudaDataType_t type, std::size_t count, unsigned seed) : type_(type), values_(count) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> quarters(-8, 8);  // exact in every dtype
    for (float& value : values_) value = static_cast<float>(quarters(random)) / 4;
    std::vector<std::byte> bytes(count * size());
    for (std::size_t i = 0; i < count; ++i) {
      if (type == CUDA_R_16F) reinterpret_cast<__half*>(bytes.data())[i] = values_[i];
      if (type == CUDA_R_16BF) reinterpret_cast<__nv_bfloat16*>(bytes.data())[i] = values_[i];
      if (type == CUDA_R_32F) reinterpret_cast<float*>(bytes.data())[i] = values_[i];
    }
    cudaMalloc(&data_, bytes.size());
    cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyDefault);
  }
  ~Elements() { cudaFree(data_); }
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;

  void* data() const { return data_; }
  double at(std::int64_t i) const {
    return static_cast<double>(values_[static_cast<std::size_t>(i)]);
  }
  /// What the device has now.
  double now(std::int64_t i) const {
    std::vector<std::byte> bytes(values_.size() * size());
    cudaMemcpy(bytes.data(), data_, bytes.size(), cudaMemcpyDefault);
    if (type_ == CUDA_R_16F) {
      return static_cast<double>(__half2float(reinterpret_cast<const __half*>(bytes.data())[i]));
    }
    if (type_ == CUDA_R_16BF) {
      return static_cast<double>(
          __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(bytes.data())[i]));
    }
    return static_cast<double>(reinterpret_cast<const float*>(bytes.data())[i]);
  }

 private:
  std::size_t size() const { return type_ == CUDA_R_32F ? 4 : 2; }
  cudaDataType_t type_;
  std::vector<float> values_;
  void* data_ = nullptr;
};

struct Types {
  cudaDataType_t in;
  cudaDataType_t out;
};

class EmulatedCublasLt : public testing::TestWithParam<Types> {};

constexpr std::int64_t kM = 5;
constexpr std::int64_t kN = 3;
constexpr std::int64_t kK = 37;

TEST_P(EmulatedCublasLt, MultipliesTransposedAddsActivates) {
  cublasLtHandle_t handle = nullptr;
  cudaStream_t stream = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  ASSERT_CUBLAS(cublasLtCreate(&handle));
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_CUBLAS(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    return cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value));
  };
  const auto [in, out] = GetParam();
  // a^T: weights of m rows of k, with a gap between; b: n columns of k.
  const Elements a(in, kM * (kK + 2), 1);
  const Elements b(in, kN * kK, 2);
  const Elements c(out, kN * kM, 3);
  const Elements d(out, kN * (kM + 1), 4);
  const Elements bias(out, kM, 5);
  ASSERT_CUBLAS(set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{CUBLAS_OP_T}));
  ASSERT_CUBLAS(set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{CUBLASLT_EPILOGUE_RELU_BIAS}));
  ASSERT_CUBLAS(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data()));
  ASSERT_CUBLAS(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, std::int32_t{out}));
  EXPECT_NE(set(CUBLASLT_MATMUL_DESC_TRANSB, std::int64_t{0}), CUBLAS_STATUS_SUCCESS);
  cublasLtMatrixLayout_t layouts[4];
  ASSERT_CUBLAS(cublasLtMatrixLayoutCreate(&layouts[0], in, kK, kM, kK + 2));
  ASSERT_CUBLAS(cublasLtMatrixLayoutCreate(&layouts[1], in, kK, kN, kK));
  ASSERT_CUBLAS(cublasLtMatrixLayoutCreate(&layouts[2], out, kM, kN, kM));
  ASSERT_CUBLAS(cublasLtMatrixLayoutCreate(&layouts[3], out, kM, kN, kM + 1));
  const float alpha = 0.5F;
  const float beta = 2.0F;
  const auto multiply = [&](cublasLtMatrixLayout_t b_layout) {
    return cublasLtMatmul(handle, operation, &alpha, a.data(), layouts[0], b.data(), b_layout,
                          &beta, c.data(), layouts[2], d.data(), layouts[3], nullptr, nullptr, 0,
                          stream);
  };
  EXPECT_EQ(multiply(layouts[0]), CUBLAS_STATUS_INVALID_VALUE);  // not of the product's shape
  ASSERT_CUBLAS(multiply(layouts[1]));
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  for (std::int64_t j = 0; j < kN; ++j) {
    for (std::int64_t i = 0; i < kM; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < kK; ++k) sum += a.at(i * (kK + 2) + k) * b.at(j * kK + k);
      const double wanted = std::max(0.0, 0.5 * sum + 2 * c.at(j * kM + i) + bias.at(i));
      const double unit = out == CUDA_R_32F ? 1e-6 : out == CUDA_R_16F ? 1e-3 : 1e-2;
      EXPECT_NEAR(d.now(j * (kM + 1) + i), wanted, unit * (1 + wanted)) << i << " " << j;
    }
    EXPECT_EQ(d.now(j * (kM + 1) + kM), d.at(j * (kM + 1) + kM));  // the gap
  }
  for (cublasLtMatrixLayout_t layout : layouts) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(operation);
  cublasLtDestroy(handle);
  cudaStreamDestroy(stream);
}

INSTANTIATE_TEST_SUITE_P(Types, EmulatedCublasLt,
                         testing::Values(Types{CUDA_R_32F, CUDA_R_32F},
                                         Types{CUDA_R_16F, CUDA_R_16F},
                                         Types{CUDA_R_16F, CUDA_R_32F},
                                         Types{CUDA_R_16BF, CUDA_R_16BF}));

}  // namespace
}  // namespace sluice
