// One file of launches for the small kernels around products: the toolkit's headers cost seconds
// per file and architecture.
#include "kernels/cuda/rows.cuh"

#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"
#include "kernels/cuda/layer_norm.cuh"
#include "kernels/cuda/rms_norm.cuh"
#include "kernels/cuda/rotate.cuh"

namespace sluice::cuda {

namespace {

constexpr std::size_t kChunkBytes = 16;

double elements_of(std::int64_t rows, std::int64_t columns) {
  return static_cast<double>(rows) * static_cast<double>(columns);
}

/// Rows of a table or of weights that read_row_chunk() can read.
bool readable_in_chunks(const TensorView& view) {
  return view.columns % kChunk == 0 &&
         rows_aligned(view, is_quantized(view.dtype) ? 4 : kChunkBytes);
}

template <DType kType>
void gather_as(cudaStream_t stream, TensorView out, const SplitMatrix& table,
               const std::int32_t* ids, bool add) {
  const DeviceTable rows{static_cast<const std::byte*>(table.resident.data),
                         static_cast<const std::byte*>(table.streamed.data), table.resident.rows,
                         table.rows()};
  const RowGrid grid(out.rows, out.columns);
  const bool in_chunks = rows_aligned(out, kChunkBytes) && out.columns % kChunk == 0 &&
                         (table.resident.rows == 0 || readable_in_chunks(table.resident)) &&
                         (table.streamed.rows == 0 || readable_in_chunks(table.streamed));
  launch("gather_kernel", stream, grid.blocks, grid.threads, 0, gather_kernel<kType>, out.data,
         out.dtype, rows, ids, out.columns, add, in_chunks);
}

template <class Word>
void select_words(cudaStream_t stream, TensorView out, TensorView in, const std::int32_t* rows) {
  const auto words = static_cast<std::int64_t>(in.row_bytes() / sizeof(Word));
  const RowGrid grid(out.rows, words * kChunk);
  launch("select_rows_kernel", stream, grid.blocks, grid.threads, 0, select_rows_kernel<Word>,
         static_cast<Word*>(out.data), static_cast<const Word*>(in.data), rows, words);
}

template <class Word>
void widen_words(cudaStream_t stream, TensorView out, TensorView in) {
  const auto out_words = static_cast<std::int64_t>(out.row_bytes() / sizeof(Word));
  const auto in_words = static_cast<std::int64_t>(in.row_bytes() / sizeof(Word));
  const RowGrid grid(out.rows, out_words * kChunk);
  launch("widen_rows_kernel", stream, grid.blocks, grid.threads, 0, widen_rows_kernel<Word>,
         static_cast<Word*>(out.data), static_cast<const Word*>(in.data), out_words, in_words);
}

void map_elements(cudaStream_t stream, TensorView rows, const ElementMap& map) {
  constexpr unsigned kThreads = 256;
  constexpr std::int64_t kPerBlock = std::int64_t{kThreads} * kChunk;
  const std::int64_t count = rows.rows * rows.columns;
  launch("map_kernel", stream, static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock), kThreads,
         0, map_kernel, rows.data, rows.dtype, count, map,
         reinterpret_cast<std::uintptr_t>(rows.data) % kChunkBytes == 0);
}

/// Which threads a norm's rows have.
struct NormGrid {
  static constexpr std::int64_t kPerWarp = std::int64_t{32} * kChunk * kNormChunks;
  static constexpr std::int64_t kMostWarps = kMostNormThreads / 32;

  explicit NormGrid(const TensorView& in) {
    const std::int64_t warps = std::min((in.columns + kPerWarp - 1) / kPerWarp, kMostWarps);
    row_threads = static_cast<unsigned>(warps * 32);
    threads = warps == 1 ? kNormThreads : row_threads;
    const std::int64_t rows_a_block = threads / row_threads;
    blocks = static_cast<unsigned>((in.rows + rows_a_block - 1) / rows_a_block);
  }
  unsigned row_threads;
  unsigned threads;
  unsigned blocks;
};

template <DType kType>
void expand_as(cudaStream_t stream, TensorView rows, DType to_dtype, void* to) {
  const RowGrid grid(rows.rows, rows.columns);
  launch("expand_kernel", stream, grid.blocks, grid.threads, 0, expand_kernel<kType>, to, to_dtype,
         static_cast<const std::byte*>(rows.data), rows.columns, readable_in_chunks(rows));
}

ProductMatrix matrix_of(const Columns& view) { return {view.data, view.dtype, view.stride}; }

}  // namespace

void launch_gather(cudaStream_t stream, TensorView out, const SplitMatrix& table,
                   const std::int32_t* ids, bool add) {
  switch (table.dtype()) {
    case DType::f16:
      return gather_as<DType::f16>(stream, out, table, ids, add);
    case DType::bf16:
      return gather_as<DType::bf16>(stream, out, table, ids, add);
    case DType::q8:
      return gather_as<DType::q8>(stream, out, table, ids, add);
    case DType::q4:
      return gather_as<DType::q4>(stream, out, table, ids, add);
    default:
      return gather_as<DType::f32>(stream, out, table, ids, add);
  }
}

KernelWork gather_work(TensorView out, const SplitMatrix& table, bool add) {
  const double read =
      static_cast<double>(out.rows) * static_cast<double>(row_bytes_of(table.dtype(), out.columns));
  const auto written = static_cast<double>(out.bytes());
  return {read + written * (add ? 2 : 1), add ? elements_of(out.rows, out.columns) : 0};
}

void launch_select_rows(cudaStream_t stream, TensorView out, TensorView in,
                        const std::int32_t* rows) {
  const auto all_aligned = [&](std::size_t bytes) {
    return rows_aligned(out, bytes) && rows_aligned(in, bytes);
  };
  if (all_aligned(sizeof(uint4))) return select_words<uint4>(stream, out, in, rows);
  select_words<std::uint16_t>(stream, out, in, rows);
}

KernelWork select_rows_work(TensorView out) { return {2.0 * static_cast<double>(out.bytes()), 0}; }

void launch_layer_norm(cudaStream_t stream, TensorView out, TensorView in, TensorView weight,
                       TensorView bias, float epsilon) {
  const NormGrid grid(in);
  const auto readable = [&](const TensorView& vector) {
    return vector.rows > 0 && vector.dtype == in.dtype && rows_aligned(vector, kChunkBytes);
  };
  const bool in_chunks = in.columns % kChunk == 0 &&
                         in.columns <= NormGrid::kMostWarps * NormGrid::kPerWarp &&
                         rows_aligned(out, kChunkBytes) && rows_aligned(in, kChunkBytes) &&
                         readable(weight) && readable(bias);
  with_activation(in.dtype, [&]<class T>() {
    launch("layer_norm_kernel", stream, grid.blocks, grid.threads, 0, layer_norm_kernel<T>,
           static_cast<T*>(out.data), static_cast<const T*>(in.data), in.rows, in.columns,
           vector_of(weight), vector_of(bias), epsilon, 1.0F / static_cast<float>(in.columns),
           grid.row_threads, in_chunks);
  });
}

KernelWork layer_norm_work(TensorView in, TensorView weight, TensorView bias) {
  return {
      2.0 * static_cast<double>(in.bytes()) + static_cast<double>(weight.bytes() + bias.bytes()),
      8.0 * elements_of(in.rows, in.columns)};
}

void launch_rms_norm(cudaStream_t stream, TensorView out, TensorView in, TensorView weight,
                     float epsilon, float offset) {
  const NormGrid grid(in);
  const bool in_chunks = in.columns % kChunk == 0 && rows_aligned(out, kChunkBytes) &&
                         rows_aligned(in, kChunkBytes) && rows_aligned(weight, kChunkBytes);
  with_activation(in.dtype, [&]<class T>() {
    launch("rms_norm_kernel", stream, grid.blocks, grid.threads, 0, rms_norm_kernel<T>,
           static_cast<T*>(out.data), static_cast<const T*>(in.data), in.rows, in.columns,
           vector_of(weight), epsilon, offset, 1.0F / static_cast<float>(in.columns),
           grid.row_threads, in_chunks);
  });
}

KernelWork rms_norm_work(TensorView in, TensorView weight) {
  return {2.0 * static_cast<double>(in.bytes()) + static_cast<double>(weight.bytes()),
          4.0 * elements_of(in.rows, in.columns)};
}

void launch_rotate(cudaStream_t stream, TensorView rows, const kernels::Rotation& rotation,
                   const std::int32_t* positions) {
  const auto heads = static_cast<int>(rows.columns / rotation.head_dim);
  with_activation(rows.dtype, [&]<class T>() {
    launch("rotate_kernel", stream, static_cast<unsigned>(rows.rows), kRotateWarps * 32, 0,
           rotate_kernel<T>, static_cast<T*>(rows.data), rotation, positions, heads);
  });
}

KernelWork rotate_work(TensorView rows, const kernels::Rotation& rotation) {
  const double turned = elements_of(rows.rows, rows.columns) / rotation.head_dim * rotation.width;
  return {2.0 * turned * static_cast<double>(size_of(rows.dtype)), 3.0 * turned};
}

void launch_scale(cudaStream_t stream, TensorView rows, float factor) {
  map_elements(stream, rows, {factor, false});
}

void launch_soft_cap(cudaStream_t stream, TensorView rows, float cap) {
  map_elements(stream, rows, {cap, true});
}

KernelWork map_work(TensorView rows) {
  return {2.0 * static_cast<double>(rows.bytes()), elements_of(rows.rows, rows.columns)};
}

void launch_widen_rows(cudaStream_t stream, TensorView out, TensorView in) {
  const auto all_aligned = [&](std::size_t bytes) {
    return rows_aligned(out, bytes) && rows_aligned(in, bytes);
  };
  if (all_aligned(sizeof(uint4))) return widen_words<uint4>(stream, out, in);
  widen_words<std::uint16_t>(stream, out, in);
}

KernelWork widen_rows_work(TensorView out, TensorView in) {
  return {static_cast<double>(out.bytes() + in.bytes()), 0};
}

void launch_convert(cudaStream_t stream, DType to_dtype, void* to, DType from_dtype,
                    const void* from, std::int64_t count) {
  constexpr unsigned kThreads = 256;
  constexpr std::int64_t kPerBlock = std::int64_t{kThreads} * kChunk;
  const auto where = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from);
  launch("convert_kernel", stream, static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock),
         kThreads, 0, convert_kernel, to, to_dtype, from, from_dtype, count,
         where % kChunkBytes == 0);
}

KernelWork convert_work(DType to_dtype, DType from_dtype, std::int64_t count) {
  const std::size_t each = size_of(to_dtype) + size_of(from_dtype);
  return {static_cast<double>(count) * static_cast<double>(each), 0};
}

void launch_expand(cudaStream_t stream, TensorView rows, DType to_dtype, void* to) {
  if (rows.dtype == DType::q8) return expand_as<DType::q8>(stream, rows, to_dtype, to);
  expand_as<DType::q4>(stream, rows, to_dtype, to);
}

KernelWork expand_work(TensorView rows) {
  const double elements = elements_of(rows.rows, rows.columns);
  return {static_cast<double>(rows.bytes()) + 2.0 * elements, 2.0 * elements};
}

const void* kernel_of_rows() { return reinterpret_cast<const void*>(epilogue_kernel); }

void launch_epilogue(cudaStream_t stream, const Columns& out, const Columns& from,
                     const ProductTail& tail) {
  const RowGrid grid(out.rows, out.columns);
  const bool in_chunks = rows_aligned(out, kChunkBytes) && rows_aligned(from, kChunkBytes) &&
                         rows_aligned(tail.bias, kChunkBytes) &&
                         rows_aligned(tail.residual, kChunkBytes);
  launch("epilogue_kernel", stream, grid.blocks, grid.threads, 0, epilogue_kernel, matrix_of(out),
         matrix_of(from), out.columns, end_of(tail), in_chunks);
}

KernelWork epilogue_work(const Columns& out, const Columns& from, const ProductTail& tail) {
  const double elements = elements_of(out.rows, out.columns);
  double bytes = elements * static_cast<double>(size_of(out.dtype) + size_of(from.dtype));
  if (tail.residual.there()) bytes += elements * static_cast<double>(size_of(tail.residual.dtype));
  if (tail.bias.there()) {
    bytes += static_cast<double>(out.columns) * static_cast<double>(size_of(tail.bias.dtype));
  }
  return {bytes, 3.0 * elements};
}

}  // namespace sluice::cuda
