// One row at a time of kernels/group_quantize.h, by vectors.
#pragma once

#include <cstdint>

#include "kernels/device/dtype.h"

namespace sluice::kernels {

/// Packs `columns` elements of f32, f16 or bf16 into a row of q8 or q4; the same bytes on every
/// machine. False where a group has an element that cannot be quantised: its scale and minimum are
/// NaN then.
bool quantize_row(DType from, const void* source, std::int64_t columns, DType to, void* target);

}  // namespace sluice::kernels
