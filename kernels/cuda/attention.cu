// Launches of append_kv and attention; the prefill kernel's are in prefill_attention.cu. Several
// kernels share this source because nvcc spends most of its time on headers, once per architecture.
#include "kernels/cuda/attention.cuh"

#include <algorithm>

#include "kernels/cuda/append_kv.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

template <DType kType>
void decode_as(cudaStream_t stream, unsigned blocks, const DecodeCall& call) {
  const auto decode = [&](auto plain, auto ruled) {
    launch("decode_attention_kernel", stream, dim3(blocks), kDecodeThreads, 0,
           call.rule.plain ? plain : ruled, call);
  };
  if (lanes_of(call.cache.head_dim) == 8) {
    return decode(decode_attention_kernel<kType, 8, false>,
                  decode_attention_kernel<kType, 8, true>);
  }
  decode(decode_attention_kernel<kType, 16, false>, decode_attention_kernel<kType, 16, true>);
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

// Bound by memory: attention_work(), and of sequences beyond one span, decode_scratch_bytes() for
// each head, written and read.
void launch_decode_attention(cudaStream_t stream, TensorView out, TensorView query,
                             const kernels::KvPages& cache, const kernels::KvBatch& batch,
                             const kernels::AttentionRule& rule, const AttentionPlan& plan,
                             const AttentionResources& resources) {
  if (plan.piece == 0) {
    throw DeviceError(
        "attention: the scratch is too small for one head; this is a bug of the caller");
  }
  const HeadMap heads_of = head_map(query, cache);
  DecodeCall call{out.data,
                  query.data,
                  reinterpret_cast<float*>(resources.scratch),
                  query.dtype,
                  cache,
                  heads_of,
                  batch,
                  page_divider(cache.page_tokens),
                  score_rule(rule, heads_of.query_heads, kLog2E),
                  0,
                  plan.spans};
  const std::int64_t all = std::int64_t{batch.sequences} * call.heads.query_heads;
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

/// Computes on the plain cores: attention_work() flop, twice that in instructions.
void launch_general_attention(cudaStream_t stream, TensorView out, TensorView query,
                              const kernels::KvPages& cache, const kernels::KvBatch& batch,
                              const kernels::AttentionRule& rule, int least_rows) {
  const auto vector_bytes = static_cast<std::int64_t>(row_bytes_of(cache.dtype, cache.head_dim));
  const HeadMap heads = head_map(query, cache);
  const AttentionCall call{out.data,     query.data,
                           out.dtype,    query.dtype,
                           cache,        heads,
                           batch,        page_divider(cache.page_tokens),
                           vector_bytes, score_rule(rule, heads.query_heads, 1.0F),
                           least_rows};
  const dim3 grid(static_cast<unsigned>(most_tiles(query.rows, batch.sequences, kAttentionRows)),
                  static_cast<unsigned>(call.heads.query_heads));
  launch("attention_kernel", stream, grid, kAttentionThreads,
         attention_shared_bytes(cache.head_dim), attention_kernel, call);
}

template <DType kType>
auto codes_kernel_of(AppendBy by, DType from) -> void (*)(AppendCall) {
  if (by != AppendBy::quads) return append_codes_kernel<kType, AppendAny>;
  switch (from) {
    case DType::f16:
      return append_codes_kernel<kType, AppendQuads<__half>>;
    case DType::bf16:
      return append_codes_kernel<kType, AppendQuads<__nv_bfloat16>>;
    default:
      return append_codes_kernel<kType, AppendQuads<float>>;
  }
}

}  // namespace

// Bound by memory: append_kv_work(). Each element is read once and written once.
void launch_append_kv(cudaStream_t stream, const kernels::KvPages& cache,
                      const kernels::KvBatch& batch, TensorView keys, TensorView values) {
  const AppendBy by = append_by(cache, keys, values);
  const auto vector_bytes = static_cast<std::int64_t>(row_bytes_of(cache.dtype, cache.head_dim));
  const std::int64_t lanes = by == AppendBy::elements ? 32
                             : by == AppendBy::words  ? (vector_bytes + 15) / 16
                                                      : lanes_of(cache.head_dim);
  const AppendCall call{cache,        batch,        page_divider(cache.page_tokens),
                        keys.data,    values.data,  keys.dtype,
                        values.dtype, vector_bytes, lanes <= 8 ? 3 : lanes <= 16 ? 4 : 5};
  const int groups = kAppendThreads >> call.lane_bits;
  const dim3 grid(static_cast<unsigned>(most_tiles(keys.rows, batch.sequences, kAppendTokens)),
                  static_cast<unsigned>((2 * cache.kv_heads + groups - 1) / groups));
  const auto append = [&](auto kernel) {
    launch("append_kv_kernel", stream, grid, kAppendThreads, 0, kernel, call);
  };
  switch (cache.dtype) {
    case DType::q8:
      return append(codes_kernel_of<DType::q8>(by, keys.dtype));
    case DType::q4:
      return append(codes_kernel_of<DType::q4>(by, keys.dtype));
    default:
      break;
  }
  if (by == AppendBy::words) return append(append_words_kernel);
  switch (cache.dtype) {
    case DType::f16:
      return append(append_elements_kernel<DType::f16>);
    case DType::bf16:
      return append(append_elements_kernel<DType::bf16>);
    default:
      return append(append_elements_kernel<DType::f32>);
  }
}

AttentionResources attention_resources(std::byte* scratch, std::size_t scratch_bytes) {
  int device = 0;
  int major = 0;
  int minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
        "cudaDeviceGetAttribute");
  return {scratch, scratch_bytes, 10 * major + minor};
}

const void* kernel_of_attention() { return reinterpret_cast<const void*>(attention_kernel); }

bool has_code_for_device() {
  cudaFuncAttributes attributes = {};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel_of_attention());
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();
    return false;
  }
  check(status, "cudaFuncGetAttributes of attention");
  return true;
}

void prepare_attention() {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(attention_kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(attention_shared_bytes(kMostHeadDim))),
        "cudaFuncSetAttribute of attention");
  if (attention_resources(nullptr, 0).compute_capability >= 80) prepare_prefill_attention();
}

void launch_attention(cudaStream_t stream, TensorView out, TensorView query,
                      const kernels::KvPages& cache, const kernels::KvBatch& batch,
                      const kernels::AttentionRule& rule, const AttentionResources& resources) {
  if (rule.kept_millionths > 0) {
    return launch_sparse_attention(stream, out, query, cache, batch, rule, resources);
  }
  const AttentionPlan plan = plan_attention(out, query, cache, batch, rule.scale, resources);
  if (plan.decode) {
    launch_decode_attention(stream, out, query, cache, batch, rule, plan, resources);
  }
  if (!plan.others) return;
  if (plan.tensor_cores) {
    launch_prefill_attention(stream, out, query, cache, batch, rule);
  } else {
    launch_general_attention(stream, out, query, cache, batch, rule, plan.decode ? 2 : 1);
  }
}

}  // namespace sluice::cuda
