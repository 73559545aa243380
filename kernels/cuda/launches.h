// The kernels as plain functions: each puts its work on a stream and returns. Views lie in device
// memory; activations are f32, weights of any dtype. Shapes were checked by CudaOps. All throw
// DeviceError where a launch is refused.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::cuda {

void launch_gather(cudaStream_t stream, TensorView out, const SplitMatrix& table,
                   const std::int32_t* ids, bool add);
void launch_select_rows(cudaStream_t stream, TensorView out, TensorView in,
                        const std::int32_t* rows);
void launch_layer_norm(cudaStream_t stream, TensorView out, TensorView in, TensorView weight,
                       TensorView bias, float epsilon);

/// to: f16 or bf16, `count` elements.
void launch_narrow(cudaStream_t stream, DType to_dtype, void* to, const float* from,
                   std::int64_t count);
/// Rows of q8 or q4 as dense f16 rows at `to`.
void launch_expand(cudaStream_t stream, TensorView rows, void* to);
/// out[r, c] = activation(out[r, c] + bias[c]) + residual[r, c]; bias and residual may be empty.
void launch_epilogue(cudaStream_t stream, TensorView out, TensorView bias,
                     kernels::Activation activation, TensorView residual);
/// out[m, n] (+)= in[m, :] . weight[n, :] for quantised weights; out has rows of `out_stride`
/// floats. Meant for few rows of `in`: the weights are read once for every 8.
void launch_quantized_product(cudaStream_t stream, float* out, std::int64_t out_stride,
                              TensorView in, TensorView weight, bool add);

void launch_append_kv(cudaStream_t stream, const kernels::KvPages& cache,
                      const kernels::KvBatch& batch, TensorView keys, TensorView values);
void launch_attention(cudaStream_t stream, TensorView out, TensorView query,
                      const kernels::KvPages& cache, const kernels::KvBatch& batch, float scale,
                      const AttentionResources& resources);
/// Its part on tensor cores, for what plan_attention() says.
void launch_prefill_attention(cudaStream_t stream, TensorView out, TensorView query,
                              const kernels::KvPages& cache, const kernels::KvBatch& batch,
                              float scale);

/// Of the current device.
AttentionResources attention_resources(std::byte* scratch, std::size_t scratch_bytes);
/// Allows attention the shared memory it needs, once per device, which is current. Throws
/// DeviceError where the device has less.
void prepare_attention();
void prepare_prefill_attention();  // a part of it

}  // namespace sluice::cuda
