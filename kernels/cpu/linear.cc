// out = end(in W^T + bias), straight from row-major weights of any type.
//
// Weights are never repacked: where they are streamed they are used once per pass, and a copy would
// cost what the product does. A chunk is up to kChunkColumns rows of W (columns of the result) and
// kChunkRows rows of the input, summed over blocks of K in order; few enough that a tile of inputs
// stays in L1 while the chunk's weights pass by in L2. For many rows 16-bit weights are widened
// once per chunk; the values are the same, so the bits of the result are. Few rows are bound by
// reading W: there W is read in its own order, fetched ahead, and widened in registers.
//
// Cost: 2 M N K flop; reads N K weights per kChunkRows rows of the input.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/dot_tile-inl.h"
#include "kernels/cpu/linear_chunk.h"
#include "kernels/cpu/linear_end-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// sums[m][n] (+)= in[m] . w[n] over one block of K.
template <class T>
void add_block(const LinearChunk& chunk, const T* w, std::int64_t w_stride, std::int64_t k,
               std::int64_t length, float* sums) {
  for (std::int64_t m = 0; m < chunk.rows; m += kTileRows) {
    const std::int64_t rows = std::min<std::int64_t>(kTileRows, chunk.rows - m);
    for (std::int64_t n = 0; n < chunk.columns; n += kTileColumns) {
      const T* b[kTileColumns];
      for (int c = 0; c < kTileColumns; ++c) {
        // Beyond the last column: the last once more; its sums are not stored.
        b[c] = w + std::min<std::int64_t>(n + c, chunk.columns - 1) * w_stride;
      }
      dot_rows(rows, chunk.in + m * chunk.k + k, chunk.k, b, length, sums + m * kChunkColumns + n,
               kChunkColumns, k > 0);
    }
  }
}

/// Fetches kColumns rows of W, evenly, while as many others are multiplied.
template <class T, int kColumns>
struct FetchNext {
  const T* next;

  HWY_INLINE void operator()(std::int64_t i) const {
    constexpr std::int64_t kLine = 64 / sizeof(T);
#pragma GCC unroll 8
    for (std::int64_t line = 0; line < kLanes * kColumns; line += kLine) {
      __builtin_prefetch(next + i * kColumns + line, 0, 2);  // into L2
    }
  }
};

/// With more rows of the input it is worth to widen 16-bit weights once for all of them. Vectors of
/// 128 bits widen slowly (SSE4 has no instruction for it).
constexpr std::int64_t kFewRows = HWY_MAX_BYTES >= 32 ? 32 : 4;

/// add_all of few rows of the input: all of K before the next rows of W, so that W is read in the
/// order in which it lies. Nothing is widened to memory.
template <class T, int kColumns>
void add_few(const LinearChunk& chunk, const T* w, float* sums) {
  // Short rows are multiplied in less time than memory needs to answer.
  constexpr std::int64_t kFetch = (16 << 10) / sizeof(T);
  const std::int64_t ahead =
      std::min(kColumns * (1 + kFetch / (kColumns * chunk.k)), chunk.columns);
  for (std::int64_t n = 0; n < chunk.columns; n += kColumns) {
    const T* rows[kColumns];
    for (int c = 0; c < kColumns; ++c) {
      rows[c] = w + std::min<std::int64_t>(n + c, chunk.columns - 1) * chunk.k;
    }
    const T* next = w + (n + ahead) * chunk.k;
    if (n + ahead >= chunk.columns) {
      next = chunk.w_next == nullptr
                 ? w
                 : static_cast<const T*>(chunk.w_next) + (n + ahead - chunk.columns) * chunk.k;
    }
    for (std::int64_t k = 0; k < chunk.k; k += kBlockLength) {
      const std::int64_t length = std::min(kBlockLength, chunk.k - k);
      const T* b[kColumns];
      for (int c = 0; c < kColumns; ++c) b[c] = rows[c] + k;
      const FetchNext<T, kColumns> fetch = {next + k * kColumns};
      if constexpr (kColumns == kTileColumns) {
        dot_rows(chunk.rows, chunk.in + k, chunk.k, b, length, sums + n, kChunkColumns, k > 0,
                 fetch);
      } else {
        dot_tile<1, kColumns>(chunk.in + k, chunk.k, b, length, sums + n, kChunkColumns, k > 0,
                              fetch);
      }
    }
  }
}

template <class T>
void add_all(const LinearChunk& chunk, const T* w, float* sums, float* wide) {
  // One row has two tiles of sums under way at once: a multiply-add waits for the one before.
  if (chunk.rows == 1) return add_few<T, 2 * kTileColumns>(chunk, w, sums);
  if (chunk.rows <= kFewRows) return add_few<T, kTileColumns>(chunk, w, sums);
  const Floats d;
  for (std::int64_t k = 0; k < chunk.k; k += kBlockLength) {
    const std::int64_t length = std::min(kBlockLength, chunk.k - k);
    if (sizeof(T) == sizeof(float) || chunk.rows <= kTileRows) {
      add_block(chunk, w + k, chunk.k, k, length, sums);
      continue;
    }
    for (std::int64_t n = 0; n < chunk.columns; ++n) {
      widen(d, w + n * chunk.k + k, length, wide + n * kWideStride);
    }
    add_block(chunk, wide, kWideStride, k, length, sums);
  }
}

void run_linear_chunk(const LinearChunk& chunk, float* scratch) {
  float* const sums = scratch;
  float* const bias = sums + kChunkRows * kChunkColumns;
  float* const wide = bias + kChunkColumns;
  switch (chunk.w_dtype) {
    case DType::f16:
      add_all(chunk, static_cast<const hwy::float16_t*>(chunk.w), sums, wide);
      break;
    case DType::bf16:
      add_all(chunk, static_cast<const hwy::bfloat16_t*>(chunk.w), sums, wide);
      break;
    default:
      add_all(chunk, static_cast<const float*>(chunk.w), sums, wide);
  }
  finish_rows(chunk.end, chunk.rows, chunk.columns, sums, kChunkColumns,
              widened_bias(chunk.end, chunk.columns, bias));
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/context.h"
#include "kernels/cpu/linear_tiles.h"
#include "kernels/cpu/operations.h"

namespace sluice::kernels {

HWY_EXPORT(run_linear_chunk);

namespace {

static_assert(kChunkRows * kChunkColumns + kChunkColumns + kChunkColumns * kWideStride <=
              kScratchFloats);

/// How the product is cut. Each part of W is cut by itself, so that a chunk lies in one part.
struct Cut {
  std::int64_t columns;  // per chunk
  std::int64_t resident_chunks;
  std::int64_t column_chunks;
  std::int64_t row_chunks;
};

Cut cut_linear(std::int64_t rows, const SplitMatrix& weight, int threads) {
  Cut cut = {};
  cut.row_chunks = (rows + kChunkRows - 1) / kChunkRows;
  cut.columns = kChunkColumns;
  // Enough pieces for the threads to end together, each long enough to be worth fetching.
  while (cut.columns > 16 && weight.rows() * cut.row_chunks < 4 * threads * cut.columns) {
    cut.columns /= 2;
  }
  cut.resident_chunks = (weight.resident.rows + cut.columns - 1) / cut.columns;
  cut.column_chunks = cut.resident_chunks + (weight.streamed.rows + cut.columns - 1) / cut.columns;
  return cut;
}

}  // namespace

void linear_vectors(const CpuContext& context, const LinearCall& call) {
  const TensorView& in = call.in;
  const SplitMatrix& weight = call.weight;
  const Cut cut = cut_linear(in.rows, weight, context.pool->threads());
  const auto run = HWY_DYNAMIC_DISPATCH(run_linear_chunk);
  const auto body = [&](std::int64_t index, float* scratch) {
    const std::int64_t row = index / cut.column_chunks * kChunkRows;
    const std::int64_t column_chunk = index % cut.column_chunks;
    const bool resident = column_chunk < cut.resident_chunks;
    const TensorView& part = resident ? weight.resident : weight.streamed;
    const std::int64_t first =
        (resident ? column_chunk : column_chunk - cut.resident_chunks) * cut.columns;
    const std::int64_t column = resident ? first : weight.resident.rows + first;
    LinearChunk chunk;
    chunk.in = reinterpret_cast<const float*>(in.row(row));
    chunk.k = in.columns;
    chunk.rows = std::min(kChunkRows, in.rows - row);
    chunk.w = part.row(first);
    chunk.w_dtype = part.dtype;
    chunk.columns = std::min(cut.columns, part.rows - first);
    const std::int64_t next = first + context.pool->threads() * cut.columns;
    chunk.w_next = next < part.rows ? part.row(next) : nullptr;
    chunk.end = linear_end(call, row, column);
    run(chunk, scratch);
  };
  context.for_each(cut.row_chunks * cut.column_chunks, in.rows * in.columns * call.out.columns,
                   body);
}

void linear(const CpuContext& context, const LinearCall& call) {
  // By the processor and by K, never by the number of rows: the two differ in their last bits.
  const auto product = tiles_can(call.in.columns) ? linear_tiles : linear_vectors;
  product(context, call);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
