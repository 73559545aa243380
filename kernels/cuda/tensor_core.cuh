// Instructions that CUDA C++ has no words for: of sm_80 and later, products of fragments on tensor
// cores and copies to shared memory that do not wait; and some that all have. The only place where
// code depends on the architecture; tests/support/cuda_tensor_core.h has twins for the host.
//
// Fragments (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"), of the lane
// with g = lane / 4 and t = lane % 4; a register of a or b holds two neighbours, the first one low:
//   a[0] (g, 2t..)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)  of A [16, 16]
//   b0 (2t.., g)  b1 (2t + 8.., g)                                                  of B [16, 8]
//   c[0] (g, 2t)  c[1] (g, 2t + 1)  c[2] (g + 8, 2t)  c[3] (g + 8, 2t + 1)          of C [16, 8]
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
namespace sluice::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define SLUICE_TENSOR_CORE_ASM(...) __trap()
#define SLUICE_PURE_ASM(...) __trap()
constexpr bool kTensorCores = false;
#else
#define SLUICE_TENSOR_CORE_ASM(...) asm volatile(__VA_ARGS__)
#define SLUICE_PURE_ASM(...) asm(__VA_ARGS__)
constexpr bool kTensorCores = true;  // where it is false, kernels that need them are empty
#endif

/// c += a b. T: __half or __nv_bfloat16; sums are f32.
template <class T>
__device__ inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                   std::uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    SLUICE_PURE_ASM(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    SLUICE_PURE_ASM(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

__device__ inline std::uint32_t shared_address(const void* shared) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}

/// Four 8 x 8 matrices of 16-bit elements: lane l names row l % 8 of matrix l / 8 (16 bytes of
/// shared memory) and gets elements (lane / 4, 2 (lane % 4)..) of matrix i in to[i].
__device__ inline void load_matrix_x4(std::uint32_t (&to)[4], const void* row) {
  SLUICE_TENSOR_CORE_ASM("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                         : "r"(shared_address(row))
                         : "memory");
}

/// The same of the transposed matrices: elements (2 (lane % 4).., lane / 4).
__device__ inline void load_matrix_x4_transposed(std::uint32_t (&to)[4], const void* row) {
  SLUICE_TENSOR_CORE_ASM("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                         : "r"(shared_address(row))
                         : "memory");
}

/// 16 bytes of global memory to shared memory, both 16-byte aligned; zeros, and nothing read, where
/// `there` is false. Done for this thread at a wait_copies() that covers its commit_copies().
__device__ inline void copy_async_16(void* shared, const void* global, bool there) {
  SLUICE_TENSOR_CORE_ASM("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                         :
                         : "r"(shared_address(shared)), "l"(global), "r"(there ? 16 : 0)
                         : "memory");
}
__device__ inline void commit_copies() {
  SLUICE_TENSOR_CORE_ASM("cp.async.commit_group;" ::: "memory");
}
/// Waits for all but the last `kPending` groups that were committed.
template <int kPending>
__device__ inline void wait_copies() {
  SLUICE_TENSOR_CORE_ASM("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#undef SLUICE_TENSOR_CORE_ASM
#undef SLUICE_PURE_ASM

/// word & mask | bits in one instruction: nvcc makes two of constants.
__device__ inline std::uint32_t and_or(std::uint32_t word, std::uint32_t mask, std::uint32_t bits) {
  std::uint32_t result = 0;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(result) : "r"(word), "r"(mask), "r"(bits));
  return result;
}

/// 2^x by the special function unit: 2 ulp, 0 of -infinity, NaN of NaN.
__device__ inline float exp2_fast(float x) {
  float result = 0;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// tanh(x) to some 5e-7, NaN of NaN.
__device__ inline float tanh_fast(float x) {
  return 1.0F - __fdividef(2.0F, 1.0F + exp2_fast(x * 2.88539008177792681F));  // 2 log2(e)
}

}  // namespace sluice::cuda
#endif
