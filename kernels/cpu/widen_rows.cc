// Rows with zeros behind them: an embedding that is narrower than the hidden states. Copies each
// row once; too little to share among threads.
#include <cstring>

#include "kernels/cpu/operations.h"

namespace sluice::kernels {

void widen_rows(const CpuContext&, TensorView out, TensorView in) {
  const std::size_t kept = in.row_bytes();
  for (std::int64_t row = 0; row < out.rows; ++row) {
    std::memcpy(out.row(row), in.row(row), kept);
    std::memset(out.row(row) + kept, 0, out.row_bytes() - kept);
  }
}

}  // namespace sluice::kernels
