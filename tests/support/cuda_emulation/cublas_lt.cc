// cuBLASLt: products with descriptors. It refuses whatever it does not know, and whatever the
// library's documentation leaves out (a bias of another dtype than the result).
#include <cublasLt.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "tests/support/cuda_emulation/capture.h"
#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/matmul.h"
#include "tests/support/cuda_emulation/memory.h"

struct cublasLtContext {};  // the name that its headers declare

namespace sluice::emulated {

unsigned refused_epilogues = 0;

namespace {

/// Behind the opaque handles.
struct Operation {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t scale = CUDA_R_32F;
  std::int32_t transpose_a = CUBLAS_OP_N;
  std::int32_t transpose_b = CUBLAS_OP_N;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  std::int32_t bias_type = -1;  // that of the result
};
struct Preference {
  std::uint64_t workspace_bytes = 0;
};

/// The workspace that the emulated algorithm asks for, so that tests see that it is given; never
/// more than allowed.
constexpr std::uint64_t kWorkspaceBytes = 4096;
/// What makes an algorithm one that the heuristic gave.
constexpr std::uint64_t kAlgorithm = 0x656D756C61746564;

cublasStatus_t refuse(cublasStatus_t status, const std::string& why) {
  answer(cudaSuccess, "cuBLASLt: " + why);
  return status;
}

template <class T>
cublasStatus_t take(T& to, const void* from, std::size_t bytes) {
  if (from == nullptr || bytes != sizeof(T)) {
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "an attribute of the wrong size");
  }
  std::memcpy(&to, from, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

Operation& operation_of(cublasLtMatmulDesc_t handle) {
  return *reinterpret_cast<Operation*>(handle);
}
Matrix& matrix_of(cublasLtMatrixLayout_t handle) { return *reinterpret_cast<Matrix*>(handle); }

/// The product that the descriptors describe, without data. "" or what is wrong goes to `why`.
Product product_of(const Operation& operation, const Matrix& a, const Matrix& b, const Matrix& c,
                   const Matrix& d, std::string& why) {
  Product product;
  product.a = a;
  product.b = b;
  product.c = c;
  product.out = d;
  product.transpose_a = operation.transpose_a != CUBLAS_OP_N;
  product.transpose_b = operation.transpose_b != CUBLAS_OP_N;
  product.relu = (operation.epilogue & CUBLASLT_EPILOGUE_RELU) != 0;
  if ((operation.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) product.bias = operation.bias;
  product.bias_type =
      operation.bias_type < 0 ? d.type : static_cast<cudaDataType_t>(operation.bias_type);
  why = product.bad_shape();
  return product;
}

}  // namespace

}  // namespace sluice::emulated

using namespace sluice::emulated;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return 130000; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* handle, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if ((compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC) ||
      scale != CUDA_R_32F) {
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "compute and scale types other than f32");
  }
  *handle = reinterpret_cast<cublasLtMatmulDesc_t>(new Operation{.compute = compute});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) {
  delete &operation_of(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  Operation& operation = operation_of(handle);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(operation.transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(operation.transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(operation.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return take(operation.bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: {
      const cublasStatus_t status = take(operation.epilogue, value, bytes);
      const bool known = operation.epilogue == CUBLASLT_EPILOGUE_DEFAULT ||
                         operation.epilogue == CUBLASLT_EPILOGUE_RELU ||
                         operation.epilogue == CUBLASLT_EPILOGUE_BIAS ||
                         operation.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
      return known ? status : refuse(CUBLAS_STATUS_NOT_SUPPORTED, "this epilogue");
    }
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                    "attribute " + std::to_string(attribute) + " of an operation");
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* handle, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  *handle = reinterpret_cast<cublasLtMatrixLayout_t>(new Matrix{
      type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), stride});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) {
  delete &matrix_of(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  Matrix& matrix = matrix_of(handle);
  std::uint32_t type = 0;
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: {
      const cublasStatus_t status = take(type, value, bytes);
      matrix.type = static_cast<cudaDataType_t>(type);
      return status;
    }
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return take(matrix.rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return take(matrix.columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return take(matrix.stride, value, bytes);
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                    "attribute " + std::to_string(attribute) + " of a layout");
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* handle) {
  *handle = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) {
  delete reinterpret_cast<Preference*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  std::uint32_t number = 0;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(reinterpret_cast<Preference*>(handle)->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(number, value, bytes);  // makes no difference here
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                    "attribute " + std::to_string(attribute) + " of a preference");
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  *count = 0;
  if (wanted <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  if ((operation_of(operation).epilogue & refused_epilogues) != 0) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  std::string why;
  product_of(operation_of(operation), matrix_of(a), matrix_of(b), matrix_of(c), matrix_of(d), why);
  if (!why.empty()) return refuse(CUBLAS_STATUS_NOT_SUPPORTED, why);
  const std::uint64_t allowed = reinterpret_cast<Preference*>(preference)->workspace_bytes;
  results[0] = {};
  results[0].algo.data[0] = kAlgorithm;
  results[0].algo.data[1] = std::min(allowed, kWorkspaceBytes);
  results[0].workspaceSize = results[0].algo.data[1];
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t handle) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr || stream->device() != current_device()) {
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "a stream of another device, or none");
  }
  std::string why;
  Product product = product_of(operation_of(operation), matrix_of(a_layout), matrix_of(b_layout),
                               matrix_of(c_layout), matrix_of(d_layout), why);
  product.alpha = *static_cast<const float*>(alpha);
  product.beta = *static_cast<const float*>(beta);
  product.a_data = a;
  product.b_data = b;
  product.c_data = c;
  product.out_data = d;
  if (why.empty() && algo != nullptr && algo->data[0] != kAlgorithm) why = "no algorithm of ours";
  if (why.empty() && algo != nullptr && algo->data[1] > workspace_bytes) why = "little workspace";
  if (why.empty() && workspace_bytes != 0)
    why = misplaced(workspace, workspace_bytes, stream->device());
  if (why.empty() && (operation_of(operation).epilogue & CUBLASLT_EPILOGUE_BIAS) != 0 &&
      product.bias == nullptr) {
    why = "no bias";
  }
  if (why.empty() && c == d && matrix_of(c_layout).stride != matrix_of(d_layout).stride) {
    why = "c in place of d, but of another stride";
  }
  if (!why.empty()) return refuse(CUBLAS_STATUS_INVALID_VALUE, why);
  stream->enqueue([product, device = stream->device()] {
    if (const std::string bad = product.bad_memory(device); !bad.empty()) {
      throw std::logic_error("cublasLtMatmul: " + bad);
    }
    product.run();
  });
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasLtGetStatusName(cublasStatus_t) { return "a status of the emulated cuBLASLt"; }
const char* cublasLtGetStatusString(cublasStatus_t) { return "refused by the emulated cuBLASLt"; }

}  // extern "C"
