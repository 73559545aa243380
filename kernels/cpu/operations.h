// The operations of kernels/ops.h as plain functions, each in a file of its own name. They run on
// the calling thread and the pool's, and return when the work is done. Shapes were checked by
// CpuOps; what only the arrays can tell (ids, contexts, pages) is checked here. All throw
// DeviceError.
#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/cpu/linear_call.h"
#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::kernels {

/// Widest head attention() can do.
constexpr std::int32_t kMaxHeadDim = 512;
/// What a thread takes at a time of an operation that goes element by element.
constexpr std::int64_t kPieceElements = 16 * 1024;

void gather(const CpuContext& context, TensorView out, const SplitMatrix& table,
            const std::int32_t* ids, bool add);

void select_rows(const CpuContext& context, TensorView out, TensorView in,
                 const std::int32_t* rows);

void layer_norm(const CpuContext& context, TensorView out, TensorView in, TensorView weight,
                TensorView bias, float epsilon);

void rms_norm(const CpuContext& context, TensorView out, TensorView in, TensorView weight,
              float epsilon, float offset);

void rotate(const CpuContext& context, TensorView rows, const Rotation& rotation,
            const std::int32_t* positions);

void scale(const CpuContext& context, TensorView rows, float factor);

void soft_cap(const CpuContext& context, TensorView rows, float cap);

void add(const CpuContext& context, TensorView out, TensorView in);

void widen_rows(const CpuContext& context, TensorView out, TensorView in);

void clear(const CpuContext& context, TensorView rows);

void clamp(const CpuContext& context, TensorView rows, float limit);

void route(const CpuContext& context, const RoutedRows& routed, TensorView logits,
           TensorView correction, const RouterRule& rule);

void add_rows(const CpuContext& context, TensorView out, TensorView in, const RowFactors& where);

/// Both products, of weights that are not quantised (linear_quantized.h has the others).
void linear(const CpuContext& context, const LinearCall& call);

void append_kv(const CpuContext& context, const KvPages& cache, const KvBatch& batch,
               TensorView keys, TensorView values);

void attention(const CpuContext& context, TensorView out, TensorView query, const KvPages& cache,
               const KvBatch& batch, const AttentionRule& rule);

/// attention() by a rule that keeps few values. The batch was checked. The shared scratch must hold
/// KeptKeys::floats() of the longest sequence (kept_keys.h).
void sparse_attention(const CpuContext& context, TensorView out, TensorView query,
                      const KvPages& cache, const KvBatch& batch, const AttentionRule& rule);

/// Throws unless every sequence has new tokens, a context that holds them and pages enough, page
/// numbers that are not negative, and rows within [0, rows). `operation` names the caller. With a
/// window (AttentionRule) only pages that some new token sees need a number.
void check_batch(const char* operation, const KvPages& cache, const KvBatch& batch,
                 std::int64_t rows, std::int32_t window = 0);

/// The instruction set that dispatch chose: "AVX3", "AVX2", ...
const char* instruction_set();

}  // namespace sluice::kernels
