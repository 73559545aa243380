// The two ways of linear(): tile products (linear_amx.h) and vectors. Each keeps the law of
// kernels/ops.h on its own; their results differ in the last bits.
#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/cpu/linear_call.h"

namespace sluice::kernels {

/// Whether the processor has tile products, and rows of `k` elements find room in the lane's shared
/// scratch when packed.
bool tiles_can(std::int64_t k);

/// As linear() of operations.h; only where tiles_can().
void linear_tiles(const CpuContext& context, const LinearCall& call);

/// As linear() of operations.h, everywhere.
void linear_vectors(const CpuContext& context, const LinearCall& call);

}  // namespace sluice::kernels
