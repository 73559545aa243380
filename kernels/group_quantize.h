// Group-wise quantisation of rows: 64 neighbours of a row share a scale and a minimum (FlexGen
// paper, section 4; its compression.py, symmetric=False). element = minimum + scale * code.
//
// A row of G = ceil(columns / 64) groups is laid out as
//   codes   q8: G x 64 bytes, one code (0 ... 255) an element
//           q4: G x 32 bytes; byte i of a group holds element i in its low four bits and element
//           i + 32 in its high four (codes 0 ... 15)
//   scales  G x {f16 scale, f16 minimum}
// so that a row is row_bytes_of() bytes, stands alone, and can lie in any tier. Elements beyond
// `columns` in the last group have code 0 and must not be used.
#pragma once

#include <cstdint>

#include "kernels/device/dtype.h"

namespace sluice::kernels {

/// Packs `rows` dense rows of f32, f16 or bf16 into rows of q8 or q4. Codes are those of the scale
/// and minimum as they are stored (rounded to f16; the scale never to 0 where elements differ).
/// Elements must be finite: else throws InputError naming row and column.
/// Single thread; the same bytes on every machine.
void quantize_rows(DType from, const void* source, std::int64_t rows, std::int64_t columns,
                   DType to, void* target);

/// target[rows, columns] in f32.
void dequantize_rows(DType from, const void* source, std::int64_t rows, std::int64_t columns,
                     float* target);

}  // namespace sluice::kernels
