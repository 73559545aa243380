// The kernels as plain functions: each puts its work on a stream and returns. Views lie in device
// memory; activations are f32, f16 or bf16, weights of any dtype. Shapes were checked by CudaOps.
// All throw DeviceError where a launch is refused. Beside each: what it must move and compute.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/kernel_work.h"
#include "kernels/cuda/product_views.h"
#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::cuda {

void launch_gather(cudaStream_t stream, TensorView out, const SplitMatrix& table,
                   const std::int32_t* ids, bool add);
KernelWork gather_work(TensorView out, const SplitMatrix& table, bool add);

void launch_select_rows(cudaStream_t stream, TensorView out, TensorView in,
                        const std::int32_t* rows);
KernelWork select_rows_work(TensorView out);

void launch_layer_norm(cudaStream_t stream, TensorView out, TensorView in, TensorView weight,
                       TensorView bias, float epsilon);
KernelWork layer_norm_work(TensorView in, TensorView weight, TensorView bias);

void launch_rms_norm(cudaStream_t stream, TensorView out, TensorView in, TensorView weight,
                     float epsilon, float offset);
KernelWork rms_norm_work(TensorView in, TensorView weight);

void launch_rotate(cudaStream_t stream, TensorView rows, const kernels::Rotation& rotation,
                   const std::int32_t* positions);
KernelWork rotate_work(TensorView rows, const kernels::Rotation& rotation);

void launch_scale(cudaStream_t stream, TensorView rows, float factor);
void launch_soft_cap(cudaStream_t stream, TensorView rows, float cap);
KernelWork map_work(TensorView rows);  // of either

/// out and in of one dtype; out may have more columns.
void launch_widen_rows(cudaStream_t stream, TensorView out, TensorView in);
KernelWork widen_rows_work(TensorView out, TensorView in);

void launch_clear(cudaStream_t stream, TensorView rows);
void launch_clamp(cudaStream_t stream, TensorView rows, float limit);
/// Two kernels: the choice of each row, and the rows of each expert.
void launch_route(cudaStream_t stream, const kernels::RoutedRows& routed, TensorView logits,
                  TensorView correction, const kernels::RouterRule& rule);
KernelWork route_work(TensorView logits, const kernels::RouterRule& rule);
void launch_add_rows(cudaStream_t stream, TensorView out, TensorView in,
                     const kernels::RowFactors& where);
KernelWork add_rows_work(TensorView out, TensorView in);

/// to[i] = from[i]: f32, f16 or bf16, `count` elements.
void launch_convert(cudaStream_t stream, DType to_dtype, void* to, DType from_dtype,
                    const void* from, std::int64_t count);
KernelWork convert_work(DType to_dtype, DType from_dtype, std::int64_t count);

/// Rows of q8 or q4 as dense rows of f16 or bf16 at `to`.
void launch_expand(cudaStream_t stream, TensorView rows, DType to_dtype, void* to);
KernelWork expand_work(TensorView rows);

/// out = tail(from), `from` being out's dtype or f32. `from` and the residual may be out. With
/// nothing but a residual this is kernels::Ops::add.
void launch_epilogue(cudaStream_t stream, const Columns& out, const Columns& from,
                     const ProductTail& tail);
KernelWork epilogue_work(const Columns& out, const Columns& from, const ProductTail& tail);

/// out = tail(in weight^T). The weights are read once for every 4 rows of `in`, which is f32 or of
/// the weights' dtype. The residual may be out.
void launch_few_rows_product(cudaStream_t stream, const Columns& out, TensorView in,
                             TensorView weight, const ProductTail& tail);
/// The same with weights of q8 or q4, which are read once for every 8 rows of `in`.
void launch_quantized_product(cudaStream_t stream, const Columns& out, TensorView in,
                              TensorView weight, const ProductTail& tail);
/// The same on tensor cores (sm_80 and later), the weights read once for every 64 rows. `in` is f16
/// or bf16, a multiple of 256 columns; rows of in and weight are 16-byte aligned. The columns are
/// cut into `splits`, at most a 256th of them; parts: where there are several, memory of f32
/// [splits, min(in.rows, 64), weight.rows], 16-byte aligned.
void launch_tensor_product(cudaStream_t stream, const Columns& out, TensorView in,
                           TensorView weight, const ProductTail& tail, int splits, float* parts);
/// Of a product, however it is done.
KernelWork product_work(const Columns& out, TensorView in, TensorView weight,
                        const ProductTail& tail);

void launch_append_kv(cudaStream_t stream, const kernels::KvPages& cache,
                      const kernels::KvBatch& batch, TensorView keys, TensorView values);
void launch_attention(cudaStream_t stream, TensorView out, TensorView query,
                      const kernels::KvPages& cache, const kernels::KvBatch& batch,
                      const kernels::AttentionRule& rule, const AttentionResources& resources);
/// Its part on tensor cores, for what plan_attention() says.
void launch_prefill_attention(cudaStream_t stream, TensorView out, TensorView query,
                              const kernels::KvPages& cache, const kernels::KvBatch& batch,
                              const kernels::AttentionRule& rule);

/// Its part where the rule keeps few values.
void launch_sparse_attention(cudaStream_t stream, TensorView out, TensorView query,
                             const kernels::KvPages& cache, const kernels::KvBatch& batch,
                             const kernels::AttentionRule& rule,
                             const AttentionResources& resources);

/// Most columns of the logits.
constexpr std::int64_t kMostVocabulary = std::int64_t{1} << 19;
/// `scratch`: at least a row of the logits, of this stream alone.
void launch_sample(cudaStream_t stream, kernels::SampledRow* sampled, TensorView logits,
                   const kernels::SampleRow* rows, const kernels::SampleLists& lists,
                   float* scratch, std::size_t scratch_bytes);
/// At least: every logit read once and compared.
KernelWork sample_work(TensorView logits);

/// A kernel of each source file (load_kernels.h).
const void* kernel_of_attention();
const void* kernel_of_experts();
const void* kernel_of_prefill_attention();
const void* kernel_of_sparse_attention();
const void* kernel_of_products();
const void* kernel_of_rows();
const void* kernel_of_sample();

/// Whether this library has code for the current device. Throws DeviceError where that cannot be
/// told.
bool has_code_for_device();
/// Of the current device.
AttentionResources attention_resources(std::byte* scratch, std::size_t scratch_bytes);
/// Allows attention the shared memory it needs, once per device, which is current. Throws
/// DeviceError where the device has less.
void prepare_attention();
void prepare_prefill_attention();  // a part of it

}  // namespace sluice::cuda
