// Rows by number: gather (token and position embeddings), select_rows. One block per row; bound by
// memory, each row read and written once.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

/// A SplitMatrix as kernels take it.
struct DeviceTable {
  const std::byte* resident;
  const std::byte* streamed;
  std::int64_t resident_rows;
  std::int64_t rows;
};

/// An id that is not in the table makes its row NaN: the request fails, and says so.
template <DType kType>
__global__ void gather_kernel(float* out, DeviceTable table, const std::int32_t* ids,
                              std::int64_t columns, bool add) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t id = ids[row];
  const bool known = id >= 0 && id < table.rows;
  const std::byte* from = nullptr;
  if (known) {
    const std::int64_t bytes = row_bytes<kType>(columns);
    from = id < table.resident_rows ? table.resident + id * bytes
                                    : table.streamed + (id - table.resident_rows) * bytes;
  }
  float* const to = out + row * columns;
  for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    const float value = known ? element<kType>(from, columns, c) : nanf("");
    to[c] = add ? to[c] + value : value;
  }
}

static __global__ void select_rows_kernel(float* out, const float* in, const std::int32_t* rows,
                                          std::int64_t columns) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t from = rows[row];
  for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    out[row * columns + c] = in[from * columns + c];
  }
}

}  // namespace sluice::cuda
