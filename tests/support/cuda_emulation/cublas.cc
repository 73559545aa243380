// cuBLAS: what of it the engine calls.
#include <cublas_v2.h>

#include <stdexcept>

#include "tests/support/cuda_emulation/capture.h"
#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/matmul.h"
#include "tests/support/cuda_emulation/memory.h"

struct cublasContext {  // the name that its headers declare
  cudaStream_t stream = nullptr;
};

using namespace sluice::emulated;

namespace {

cublasStatus_t refuse(cublasStatus_t status, const std::string& why) {
  answer(cudaSuccess, "cuBLAS: " + why);
  return status;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, size_t bytes) {
  if (const std::string why = misplaced(workspace, bytes, current_device()); !why.empty()) {
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the workspace is " + why);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t mode) {
  return mode == CUBLAS_PEDANTIC_MATH ? CUBLAS_STATUS_SUCCESS
                                      : refuse(CUBLAS_STATUS_NOT_SUPPORTED, "math mode");
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                            cublasOperation_t transpose_b, int m, int n, int k, const void* alpha,
                            const void* a, cudaDataType a_type, int a_stride, const void* b,
                            cudaDataType b_type, int b_stride, const void* beta, void* c,
                            cudaDataType c_type, int c_stride, cublasComputeType_t compute,
                            cublasGemmAlgo_t) {
  Stream* const stream = stream_of(handle->stream);
  if (stream == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (compute != CUBLAS_COMPUTE_32F) return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "compute type");
  Product product;
  product.transpose_a = transpose_a != CUBLAS_OP_N;
  product.transpose_b = transpose_b != CUBLAS_OP_N;
  product.a = {a_type, product.transpose_a ? k : m, product.transpose_a ? m : k, a_stride};
  product.b = {b_type, product.transpose_b ? n : k, product.transpose_b ? k : n, b_stride};
  product.c = product.out = {c_type, m, n, c_stride};
  product.alpha = *static_cast<const float*>(alpha);
  product.beta = *static_cast<const float*>(beta);
  product.a_data = a;
  product.b_data = b;
  product.c_data = product.out_data = c;
  if (const std::string why = product.bad_shape(); !why.empty()) {
    return refuse(CUBLAS_STATUS_INVALID_VALUE, why);
  }
  stream->enqueue([product, device = stream->device()] {
    if (const std::string why = product.bad_memory(device); !why.empty()) {
      throw std::logic_error("cublasGemmEx: " + why);
    }
    product.run();
  });
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "a status without a name in the emulation";
  }
}

const char* cublasGetStatusString(cublasStatus_t) { return "refused by the emulated cuBLAS"; }

}  // extern "C"
