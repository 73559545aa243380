// The operations of kernels/ops.h as plain functions, each in a file of its own name. They run on
// the calling thread and the pool's, and return when the work is done. Shapes were checked by
// CpuOps; what only the arrays can tell (ids, contexts, pages) is checked here. All throw
// DeviceError.
#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::kernels {

/// Widest head attention() can do.
constexpr std::int32_t kMaxHeadDim = 512;

void gather(const CpuContext& context, TensorView out, const SplitMatrix& table,
            const std::int32_t* ids, bool add);

void select_rows(const CpuContext& context, TensorView out, TensorView in,
                 const std::int32_t* rows);

void layer_norm(const CpuContext& context, TensorView out, TensorView in, TensorView weight,
                TensorView bias, float epsilon);

void linear(const CpuContext& context, TensorView out, TensorView in, const SplitMatrix& weight,
            TensorView bias, Activation activation, TensorView residual);

void append_kv(const CpuContext& context, const KvPages& cache, const KvBatch& batch,
               TensorView keys, TensorView values);

void attention(const CpuContext& context, TensorView out, TensorView query, const KvPages& cache,
               const KvBatch& batch, const AttentionRule& rule);

/// Throws unless every sequence has new tokens, a context that holds them and pages enough, page
/// numbers that are not negative, and rows within [0, rows). `operation` names the caller.
void check_batch(const char* operation, const KvPages& cache, const KvBatch& batch,
                 std::int64_t rows);

/// The instruction set that dispatch chose: "AVX3", "AVX2", ...
const char* instruction_set();

}  // namespace sluice::kernels
