// out[rows[i]] += factor * in[i]: what each expert gives, added up. And the other small operations
// around experts: clear, clamp. Bound by memory; the compiler's vectors serve, and as nothing is
// summed across elements all instruction sets give the same bits.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/operations.h"
#include "kernels/device/error.h"

namespace sluice::kernels {

void clear(const CpuContext&, TensorView rows) { std::memset(rows.data, 0, rows.bytes()); }

void clamp(const CpuContext& context, TensorView rows, float limit) {
  auto* const values = static_cast<float*>(rows.data);
  context.for_pieces(rows.rows * rows.columns, 1, kPieceElements,
                     [&](std::int64_t first, std::int64_t count) {
                       for (std::int64_t i = first; i < first + count; ++i) {
                         values[i] = std::clamp(values[i], -limit, limit);
                       }
                     });
}

void add_rows(const CpuContext& context, TensorView out, TensorView in, const RowFactors& where) {
  for (std::int64_t i = 0; where.rows != nullptr && i < in.rows; ++i) {
    if (where.rows[i] >= 0 && where.rows[i] < out.rows) continue;
    throw DeviceError(
        fmt::format("add_rows: row {} goes to row {} of {}; this is a bug of the caller", i,
                    where.rows[i], out.rows));
  }
  context.for_each(in.rows, in.rows * in.columns, [&](std::int64_t row, float*) {
    float factor = where.factors == nullptr ? 1.0F : where.factors[row];
    if (where.sigmoids) factor = 1.0F / (1.0F + std::exp(-factor));
    auto* const to = reinterpret_cast<float*>(
        out.row(where.rows == nullptr ? row : std::int64_t{where.rows[row]}));
    const auto* const from = reinterpret_cast<const float*>(in.row(row));
    for (std::int64_t c = 0; c < in.columns; ++c) {
      const float product = factor * from[c];
      to[c] += product;
    }
  });
}

}  // namespace sluice::kernels
