// cuBLAS's own best for the products of bench_cuda_kernels: the fastest of all algorithms that its
// heuristics offer, each tried. Knows nothing of sluice.
//
//   bench_cublas_best M,N,K,DTYPE...     (DTYPE f16 or bf16; out[M, N] = in[M, K] weight[N, K]^T)
//
// Inputs rotate through memory far beyond the L2 cache, as there. A line of JSON per shape.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorName(status));
  }
}

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw std::runtime_error(std::string(call) + ": " + cublasLtGetStatusName(status));
  }
}

constexpr std::size_t kWorkspace = std::size_t{64} << 20U;
constexpr std::size_t kReach = std::size_t{512} << 20U;
constexpr int kMostAlgorithms = 64;
constexpr int kRounds = 5;

struct Shape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  cudaDataType_t type = CUDA_R_16F;
  std::string text;
};

Shape shape_of(const char* word) {
  Shape shape;
  shape.text = word;
  char type[8] = {};
  long long m = 0;
  long long n = 0;
  long long k = 0;
  if (std::sscanf(word, "%lld,%lld,%lld,%7s", &m, &n, &k, type) != 4 || m < 1 || n < 1 || k < 1 ||
      (std::strcmp(type, "f16") != 0 && std::strcmp(type, "bf16") != 0)) {
    throw std::invalid_argument("a shape is M,N,K,f16 or M,N,K,bf16, not '" + shape.text + "'");
  }
  shape.m = m;
  shape.n = n;
  shape.k = k;
  if (std::strcmp(type, "bf16") == 0) shape.type = CUDA_R_16BF;
  return shape;
}

/// Copies of a matrix, numbers of both signs, so many that the cache holds no two.
class Matrices {
 public:
  explicit Matrices(std::int64_t elements) : bytes_(static_cast<std::size_t>(elements) * 2) {
    count_ = std::max<std::size_t>(1, (kReach + bytes_ - 1) / bytes_);
    check(cudaMalloc(&data_, count_ * bytes_), "cudaMalloc");
    std::minstd_rand dice(1);
    std::vector<std::uint16_t> chunk(1U << 20U);
    // Of f16 and bf16 alike normal numbers of either sign, none large.
    for (std::uint16_t& value : chunk) {
      value = static_cast<std::uint16_t>((0x30U + dice() % 8 + dice() % 2 * 0x80U) << 8U |
                                         dice() % 256);
    }
    const std::size_t all = count_ * bytes_;
    for (std::size_t at = 0; at < all; at += chunk.size() * 2) {
      check(cudaMemcpy(at_byte(at), chunk.data(), std::min(chunk.size() * 2, all - at),
                       cudaMemcpyHostToDevice),
            "cudaMemcpy");
    }
  }
  ~Matrices() { cudaFree(data_); }
  Matrices(const Matrices&) = delete;
  Matrices& operator=(const Matrices&) = delete;
  void* operator[](std::size_t i) const { return at_byte(i % count_ * bytes_); }

 private:
  void* at_byte(std::size_t at) const { return static_cast<std::byte*>(data_) + at; }
  void* data_ = nullptr;
  std::size_t bytes_;
  std::size_t count_;
};

/// cuBLAS counts columns first: out^T[N, M] = weight[N, K] in^T[K, M].
class Product {
 public:
  Product(cublasLtHandle_t handle, const Shape& shape)
      : handle_(handle),
        weight_(shape.n * shape.k),
        in_(shape.m * shape.k),
        out_(shape.m * shape.n) {
    check(cudaMalloc(&workspace_, kWorkspace), "cudaMalloc");
    check(cublasLtMatmulDescCreate(&call_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "DescCreate");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(call_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof(transposed)),
          "DescSetAttribute");
    const auto n = static_cast<std::uint64_t>(shape.n);
    const auto m = static_cast<std::uint64_t>(shape.m);
    const auto k = static_cast<std::uint64_t>(shape.k);
    check(cublasLtMatrixLayoutCreate(&a_, shape.type, k, n, shape.k), "LayoutCreate");
    check(cublasLtMatrixLayoutCreate(&b_, shape.type, k, m, shape.k), "LayoutCreate");
    check(cublasLtMatrixLayoutCreate(&c_, shape.type, n, m, shape.n), "LayoutCreate");
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference), "PreferenceCreate");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &kWorkspace, sizeof(kWorkspace)),
          "PreferenceSetAttribute");
    algorithms_.resize(kMostAlgorithms);
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_, call_, a_, b_, c_, c_, preference,
                                         kMostAlgorithms, algorithms_.data(), &found),
          "AlgoGetHeuristic");
    algorithms_.resize(static_cast<std::size_t>(found));
    cublasLtMatmulPreferenceDestroy(preference);
    check(cudaEventCreate(&begin_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~Product() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cublasLtMatrixLayoutDestroy(a_);
    cublasLtMatrixLayoutDestroy(b_);
    cublasLtMatrixLayoutDestroy(c_);
    cublasLtMatmulDescDestroy(call_);
    cudaFree(workspace_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  std::size_t algorithms() const { return algorithms_.size(); }
  /// Milliseconds of one product by the fastest algorithm, each the median of rounds.
  float best() {
    float best = 0;
    for (const cublasLtMatmulHeuristicResult_t& algorithm : algorithms_) {
      if (algorithm.state != CUBLAS_STATUS_SUCCESS) continue;
      float took = 0;
      if (!run(algorithm.algo, 1, took)) continue;
      // About 10 ms, so that the events' own grain is nothing.
      run(algorithm.algo, 2, took);
      const int times = std::clamp(static_cast<int>(10.0F / (took / 2)), 3, 1000);
      std::vector<float> rounds;
      for (int round = 0; round < kRounds && run(algorithm.algo, times, took); ++round) {
        rounds.push_back(took / static_cast<float>(times));
        // Far behind the best: one round says so.
        if (best > 0 && rounds.front() > 1.5F * best) break;
      }
      if (rounds.empty()) continue;
      std::sort(rounds.begin(), rounds.end());
      const float median = rounds[rounds.size() / 2];
      if (best == 0 || median < best) best = median;
    }
    return best;
  }

 private:
  bool run(const cublasLtMatmulAlgo_t& algorithm, int times, float& took) {
    const float one = 1;
    const float zero = 0;
    check(cudaEventRecord(begin_, nullptr), "cudaEventRecord");
    for (int i = 0; i < times; ++i) {
      void* const out = out_[next_];
      if (cublasLtMatmul(handle_, call_, &one, weight_[next_], a_, in_[next_], b_, &zero, out, c_,
                         out, c_, &algorithm, workspace_, kWorkspace,
                         nullptr) != CUBLAS_STATUS_SUCCESS) {
        return false;
      }
      ++next_;
    }
    check(cudaEventRecord(end_, nullptr), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    check(cudaEventElapsedTime(&took, begin_, end_), "cudaEventElapsedTime");
    return true;
  }

  cublasLtHandle_t handle_;
  Matrices weight_;
  Matrices in_;
  Matrices out_;
  void* workspace_ = nullptr;
  cublasLtMatmulDesc_t call_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr;
  cublasLtMatrixLayout_t b_ = nullptr;
  cublasLtMatrixLayout_t c_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms_;
  std::size_t next_ = 0;
};

void measure(cublasLtHandle_t handle, const Shape& shape) {
  Product product(handle, shape);
  const float milliseconds = product.best();
  if (milliseconds == 0) throw std::runtime_error("no algorithm for " + shape.text);
  const double flop = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
                      static_cast<double>(shape.k);
  std::printf(
      "{\"name\": \"cublas_best\", \"shape\": \"%s\", \"value\": %.5f, \"unit\": \"ms\", "
      "\"tflop_per_s\": %.2f, \"algorithms\": %zu}\n",
      shape.text.c_str(), milliseconds, flop / milliseconds / 1e9, product.algorithms());
  std::fflush(stdout);
}

void run(int count, char** words) {
  std::vector<Shape> shapes;
  for (int i = 1; i < count; ++i) shapes.push_back(shape_of(words[i]));
  int devices = 0;
  check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "cublasLtCreate");
  for (const Shape& shape : shapes) measure(handle, shape);
  cublasLtDestroy(handle);
}

}  // namespace

int main(int count, char** words) {
  try {
    run(count, words);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_cublas_best: %s\n", error.what());
    return 2;
  }
}
