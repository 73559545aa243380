#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

constexpr int kPrefillRows = 16;
constexpr int kMostHeadDim = 256;

struct AttentionCall {
  cudaStream_t stream;
  float* out;
  const float* query;
  kernels::KvPages cache;
  kernels::KvBatch batch;
  std::int64_t rows;
  float scale;
};

template <DType kType, int kRows>
void attend_tiles(const AttentionCall& call) {
  // How many rows a sequence has only the device knows; all of them at most.
  const int tiles = static_cast<int>((call.rows + kRows - 1) / kRows);
  const dim3 grid(static_cast<unsigned>(call.batch.sequences * tiles),
                  static_cast<unsigned>(call.cache.heads));
  launch("attention_kernel", call.stream, grid, kAttentionThreads,
         attention_shared_bytes(kRows, call.cache.head_dim), attention_kernel<kType, kRows>,
         call.out, call.query, call.cache, call.batch, tiles, call.scale);
}

template <DType kType>
void attend_as(const AttentionCall& call) {
  if (call.rows <= call.batch.sequences) {
    attend_tiles<kType, 1>(call);  // decode: a row each
  } else {
    attend_tiles<kType, kPrefillRows>(call);
  }
}

template <DType kType>
void allow_shared_memory() {
  const auto bytes = static_cast<int>(attention_shared_bytes(kPrefillRows, kMostHeadDim));
  check(cudaFuncSetAttribute(attention_kernel<kType, kPrefillRows>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "cudaFuncSetAttribute of attention");
  check(
      cudaFuncSetAttribute(attention_kernel<kType, 1>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(attention_shared_bytes(1, kMostHeadDim))),
      "cudaFuncSetAttribute of attention");
}

}  // namespace

void prepare_attention() {
  allow_shared_memory<DType::f32>();
  allow_shared_memory<DType::f16>();
  allow_shared_memory<DType::bf16>();
  allow_shared_memory<DType::q8>();
  allow_shared_memory<DType::q4>();
}

void launch_attention(cudaStream_t stream, TensorView out, TensorView query,
                      const kernels::KvPages& cache, const kernels::KvBatch& batch, float scale) {
  const AttentionCall call{stream,
                           static_cast<float*>(out.data),
                           static_cast<const float*>(query.data),
                           cache,
                           batch,
                           query.rows,
                           scale};
  switch (cache.dtype) {
    case DType::f16:
      attend_as<DType::f16>(call);
      break;
    case DType::bf16:
      attend_as<DType::bf16>(call);
      break;
    case DType::q8:
      attend_as<DType::q8>(call);
      break;
    case DType::q4:
      attend_as<DType::q4>(call);
      break;
    default:
      attend_as<DType::f32>(call);
  }
}

}  // namespace sluice::cuda
