// Rows by number: gather (token and position embeddings), select_rows; rows made wider, and their
// elements scaled or capped. Bound by memory: each row is read and written once. On RowGrid
// (dispatch.cuh).
#pragma once

#include "kernels/cuda/chunks.cuh"

namespace sluice::cuda {

/// A SplitMatrix as kernels take it.
struct DeviceTable {
  const std::byte* resident;
  const std::byte* streamed;
  std::int64_t resident_rows;
  std::int64_t rows;
};

/// out: [rows, columns] of f32, f16 or bf16. An id that is not in the table makes its row NaN: the
/// request fails, and says so. in_chunks: rows of both can be read and written so.
template <DType kType>
__global__ void gather_kernel(void* out, DType out_dtype, DeviceTable table,
                              const std::int32_t* ids, std::int64_t columns, bool add,
                              bool in_chunks) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t column = chunk_column();
  if (column >= columns) return;
  const std::int64_t id = ids[row];
  const bool known = id >= 0 && id < table.rows;
  const std::int64_t bytes = row_bytes<kType>(columns);
  const std::byte* const from = id < table.resident_rows
                                    ? table.resident + id * bytes
                                    : table.streamed + (id - table.resident_rows) * bytes;
  const std::int64_t at = row * columns;
  if (known && in_chunks) {
    float values[kChunk];
    read_row_chunk<kType>(from, columns, column, values);
    if (add) {
      float before[kChunk];
      read_chunk_of(out_dtype, out, at + column, before);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) values[i] += before[i];
    }
    write_chunk_of(out_dtype, values, out, at + column);
    return;
  }
  const std::int64_t end = column + kChunk < columns ? column + kChunk : columns;
#pragma unroll 1
  for (std::int64_t c = column; c < end; ++c) {
    float value = known ? element<kType>(from, columns, c) : nanf("");
    if (add) value += element_of(out_dtype, out, at + c);
    store_element(out_dtype, value, out, at + c);
  }
}

/// Bytes of rows, of whatever dtype. Word: what rows of both matrices are aligned to and made of.
/// RowGrid of rows of 8 x words.
template <class Word>
__global__ void select_rows_kernel(Word* out, const Word* in, const std::int32_t* rows,
                                   std::int64_t words) {
  const std::int64_t word = chunk_column() / kChunk;
  if (word >= words) return;
  out[std::int64_t{blockIdx.x} * words + word] = in[std::int64_t{rows[blockIdx.x]} * words + word];
}

/// The same of all rows in turn, zeros behind those of `in`. RowGrid of rows of 8 x out_words.
template <class Word>
__global__ void widen_rows_kernel(Word* out, const Word* in, std::int64_t out_words,
                                  std::int64_t in_words) {
  const std::int64_t word = chunk_column() / kChunk;
  if (word >= out_words) return;
  const std::int64_t row = blockIdx.x;
  out[row * out_words + word] = word < in_words ? in[row * in_words + word] : Word{};
}

/// What scale() and soft_cap() of kernels/ops.h do to an element.
struct ElementMap {
  float number;  // the factor, or the cap
  bool caps;

  __device__ float operator()(float value) const {
    return caps ? number * tanhf(value / number) : number * value;
  }
};

/// data[i] = map(data[i]), for `count` elements: a matrix of one row.
static __global__ void map_kernel(void* data, DType dtype, std::int64_t count, ElementMap map,
                                  bool in_chunks) {
  const std::int64_t first = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kChunk;
  if (first + kChunk <= count && in_chunks) {
    float values[kChunk];
    read_chunk_of(dtype, data, first, values);
#pragma unroll
    for (float& value : values) value = map(value);
    write_chunk_of(dtype, values, data, first);
    return;
  }
#pragma unroll 1
  for (std::int64_t i = first; i < count && i < first + kChunk; ++i) {
    store_element(dtype, map(element_of(dtype, data, i)), data, i);
  }
}

}  // namespace sluice::cuda
