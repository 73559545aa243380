// Matrix products as cuBLAS has them, column by column, in plain loops: what the emulated cuBLAS
// and cuBLASLt put on a stream.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstdint>
#include <string>

namespace sluice::emulated {

/// Bits of cublasLtEpilogue_t that the heuristic of the emulated cuBLASLt finds no algorithm for,
/// as a GPU's may for some shapes (CUBLASLT_EPILOGUE_DEFAULT: for products without any).
extern unsigned refused_epilogues;

struct Matrix {
  cudaDataType_t type = CUDA_R_32F;  // or 16F, 16BF
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;  // elements from one column to the next
};

/// out = epilogue(alpha op(a) op(b) + beta c); sums in f32, in order of k within 16 of them.
struct Product {
  Matrix a, b, c, out;
  bool transpose_a = false;
  bool transpose_b = false;
  float alpha = 1;
  float beta = 0;  // 0: c is not read
  const void* a_data = nullptr;
  const void* b_data = nullptr;
  const void* c_data = nullptr;
  void* out_data = nullptr;
  const void* bias = nullptr;  // [rows of out], or null
  cudaDataType_t bias_type = CUDA_R_32F;
  bool relu = false;  // max(0, x): what it makes of NaN no document says, and here it is 0

  /// "" where shapes and types fit; else what does not.
  std::string bad_shape() const;
  /// "" where the device may touch all of it.
  std::string bad_memory(int device) const;
  void run() const;
};

}  // namespace sluice::emulated
