// Products of dense matrices by cuBLASLt, on a stream. Sums are f32; f32 operands are not rounded
// to TF32.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "kernels/cuda/product_plan.h"
#include "kernels/cuda/recent_cache.h"

namespace sluice::cuda {

class LibraryProduct {
 public:
  struct Operands {
    void* out = nullptr;             // [rows, columns], rows of call.out_stride elements
    const void* in = nullptr;        // [rows, depth], dense
    const void* weight = nullptr;    // [columns, depth], dense
    const void* bias = nullptr;      // [columns] of call.result, or null
    const void* residual = nullptr;  // as out, or null; may be out
  };

  /// `workspace`: device memory, 256-byte aligned, of one stream; it outlives this. The device is
  /// current. Throws DeviceError.
  LibraryProduct(std::byte* workspace, std::size_t workspace_bytes);

  /// Puts out = epilogue(in weight^T + residual + bias) on `stream`, which may be captured. How
  /// such a call is done is asked once and remembered. False, and nothing is put there: cuBLASLt
  /// cannot do it. `call`: alignments are set here. Throws DeviceError.
  bool run(cudaStream_t stream, LibraryCall call, const Operands& operands);

  /// Calls of the heuristic so far.
  std::size_t asked() const { return asked_; }

 private:
  template <auto kDestroy>
  struct Destroyer {
    template <class T>
    void operator()(T* handle) const {
      kDestroy(handle);
    }
  };
  template <class Handle, auto kDestroy>
  using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<kDestroy>>;
  using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;

  /// Row-major matrices are their transposes to cuBLASLt: out^T = weight in^T.
  struct Recipe {
    Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> operation;
    Layout weight, in, out;
    cublasLtMatmulAlgo_t algorithm = {};
    bool possible = false;
  };
  Recipe make(const LibraryCall& call, const void* bias);
  Recipe make(const LibraryCall& call, const void* bias, cublasComputeType_t compute);

  Owned<cublasLtHandle_t, cublasLtDestroy> handle_;
  std::byte* workspace_;
  std::size_t workspace_bytes_;
  RecentCache<LibraryCall, Recipe> recipes_;
  std::size_t asked_ = 0;
};

}  // namespace sluice::cuda
