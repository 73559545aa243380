#include "kernels/cuda/decode_attention.cuh"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

template <DType kType>
void decode_as(cudaStream_t stream, unsigned blocks, const DecodeCall& call) {
  const auto decode = [&](auto kernel) {
    launch("decode_attention_kernel", stream, dim3(blocks), kDecodeThreads, 0, kernel, call);
  };
  switch (lanes_of(call.cache.head_dim)) {
    case 8:
      return decode(decode_attention_kernel<kType, 8>);
    case 16:
      return decode(decode_attention_kernel<kType, 16>);
    default:
      return decode(decode_attention_kernel<kType, 32>);
  }
}

void decode_piece(cudaStream_t stream, unsigned blocks, const DecodeCall& call) {
  switch (call.cache.dtype) {
    case DType::f16:
      return decode_as<DType::f16>(stream, blocks, call);
    case DType::bf16:
      return decode_as<DType::bf16>(stream, blocks, call);
    case DType::q8:
      return decode_as<DType::q8>(stream, blocks, call);
    case DType::q4:
      return decode_as<DType::q4>(stream, blocks, call);
    default:
      return decode_as<DType::f32>(stream, blocks, call);
  }
}

}  // namespace

// Bound by memory: attention_work(), and of sequences beyond one span, decode_scratch_bytes() for
// each head, written and read.
void launch_decode_attention(cudaStream_t stream, TensorView out, TensorView query,
                             const kernels::KvPages& cache, const kernels::KvBatch& batch,
                             float scale, const AttentionPlan& plan,
                             const AttentionResources& resources) {
  if (plan.piece == 0) {
    throw DeviceError("attention: the scratch is too small for one head; this is a bug");
  }
  DecodeCall call{out.data,
                  query.data,
                  reinterpret_cast<float*>(resources.scratch),
                  query.dtype,
                  cache,
                  batch,
                  page_divider(cache.page_tokens),
                  scale * kLog2E,
                  0,
                  plan.spans};
  const std::int64_t all = std::int64_t{batch.sequences} * cache.heads;
  for (std::int64_t first = 0; first < all; first += plan.piece) {
    const std::int64_t heads = std::min(plan.piece, all - first);
    call.first_head = static_cast<int>(first);
    decode_piece(stream, static_cast<unsigned>(heads * plan.spans), call);
    if (plan.spans > 1) {
      launch("merge_spans_kernel", stream, dim3(static_cast<unsigned>(heads)), kDecodeThreads, 0,
             merge_spans_kernel, call);
    }
  }
}

}  // namespace sluice::cuda
