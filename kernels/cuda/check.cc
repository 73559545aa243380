#include "kernels/cuda/check.h"

#include <fmt/core.h>

#include "kernels/device/error.h"

namespace sluice::cuda {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw DeviceError(
      fmt::format("{}: {} ({})", call, cudaGetErrorString(status), cudaGetErrorName(status)));
}

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(fmt::format("{}: {} ({})", call, cublasLtGetStatusString(status),
                                cublasLtGetStatusName(status)));
}

}  // namespace sluice::cuda
