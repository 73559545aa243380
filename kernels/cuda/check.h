// Turns the status of every CUDA call into a DeviceError that names call and code.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

namespace sluice::cuda {

/// Throws DeviceError "cudaMalloc: out of memory (cudaErrorMemoryAllocation)". `call` is a literal.
void check(cudaError_t status, const char* call);
void check(cublasStatus_t status, const char* call);

}  // namespace sluice::cuda
