// Some rows of a matrix, in a given order: the last position of every sequence before the output
// head. Copies each row once; too little to share among threads.
#include <fmt/core.h>

#include <cstring>

#include "kernels/cpu/operations.h"
#include "kernels/device/error.h"

namespace sluice::kernels {

void select_rows(const CpuContext&, TensorView out, TensorView in, const std::int32_t* rows) {
  for (std::int64_t row = 0; row < out.rows; ++row) {
    if (rows[row] < 0 || rows[row] >= in.rows) {
      throw DeviceError(
          fmt::format("select_rows: row {} asks for row {} of {}; this is a bug of the caller", row,
                      rows[row], in.rows));
    }
    std::memcpy(out.row(row), in.row(rows[row]), out.row_bytes());
  }
}

}  // namespace sluice::kernels
