// The rows of the input are packed once, by all threads; then every thread multiplies pieces of W
// with all of them. Nothing of W is repacked.
//
// Cost: 2 M N K operations on 8-bit integers; reads W once per 256 rows of the input.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_quantized.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/linear_chunk.h"
#include "kernels/cpu/linear_end-inl.h"
#include "kernels/cpu/linear_quantized.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// One group of one row: its codes, scale and sum. NaN makes the scale NaN, and so the results.
void pack_row(const float* x, std::int8_t* codes, float* scale_out, float* sum_out) {
  const Floats d;
  const hn::RebindToSigned<Floats> ints;
  const hn::Rebind<std::int8_t, Floats> bytes;
  auto largest_bits = hn::Zero(ints);  // as integers NaN is the largest of all
  for (std::int64_t i = 0; i < kQuantGroup; i += kLanes) {
    largest_bits = hn::Max(largest_bits, hn::BitCast(ints, hn::Abs(hn::LoadU(d, x + i))));
  }
  const float largest = hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(ints, largest_bits)));
  // Below this, 127 / largest is infinite. Such elements count for nothing beside any other.
  constexpr float kLeast = 1e-36F;
  const float inverse = largest < kLeast ? 0.0F : 127.0F / largest;
  const auto by = hn::Set(d, inverse);
  auto total = hn::Zero(ints);
  for (std::int64_t i = 0; i < kQuantGroup; i += kLanes) {
    const auto code = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), by));
    total = hn::Add(total, code);
    hn::StoreU(hn::DemoteTo(bytes, code), bytes, codes + i);
  }
  *scale_out = largest / 127.0F;
  *sum_out = *scale_out * static_cast<float>(hn::GetLane(hn::SumOfLanes(ints, total)));
}

/// `rows` <= 16 rows of `in`, [rows, k], one group of them.
void pack_group(const float* in, std::int64_t rows, std::int64_t k, std::int64_t group,
                bool interleaved, PackedGroup& out) {
  const std::int64_t first = group * kQuantGroup;
  const std::int64_t count = std::min(kQuantGroup, k - first);
  std::memset(out.scale, 0, sizeof(out.scale));
  std::memset(out.sum, 0, sizeof(out.sum));
  for (std::int64_t m = 0; m < rows; ++m) {
    const float* x = in + m * k + first;
    float padded[kQuantGroup] = {};
    if (count < kQuantGroup) {
      std::memcpy(padded, x, static_cast<std::size_t>(count) * sizeof(float));
      x = padded;
    }
    if (!interleaved) {
      pack_row(x, out.codes + m * kQuantGroup, out.scale + m, out.sum + m);
      continue;
    }
    alignas(64) std::int8_t codes[kQuantGroup];
    pack_row(x, codes, out.scale + m, out.sum + m);
    for (std::int64_t i = 0; i < kQuantGroup; i += 4) {
      std::memcpy(out.codes + i * kQuantTile + m * 4, codes + i, 4);
    }
  }
}

void finish_quantized(const LinearEnd& end, std::int64_t rows, std::int64_t columns,
                      const float* sums) {
  float bias[QuantizedChunk::kColumns + kLanes];
  finish_rows(end, rows, columns, sums, QuantizedChunk::kColumns, widened_bias(end, columns, bias));
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <fmt/core.h>

#include "kernels/cpu/amx.h"
#include "kernels/device/error.h"

namespace sluice::kernels {

HWY_EXPORT(pack_group);
HWY_EXPORT(finish_quantized);

namespace {

constexpr std::int64_t kSumFloats = QuantizedChunk::kTiles * kQuantTile * QuantizedChunk::kColumns;
static_assert(kSumFloats + kProductScratchFloats <= kScratchFloats);

/// What is the same for all pieces of one call.
struct Job {
  const CpuContext& context;
  const LinearCall& call;
  const QuantizedProduct& product;
  bool interleaved;
  std::int64_t groups;
  PackedGroup* packed;
};

std::int64_t pieces(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// Rows [first, first + rows) of the input to job.packed.
void pack(const Job& job, std::int64_t first, std::int64_t rows) {
  constexpr std::int64_t kGroups = 8;  // per piece
  const std::int64_t per_tile = pieces(job.groups, kGroups);
  const auto run = HWY_DYNAMIC_DISPATCH(pack_group);
  const auto body = [&](std::int64_t index, float*) {
    const std::int64_t tile = index / per_tile;
    const std::int64_t begin = index % per_tile * kGroups;
    const std::int64_t row = tile * kQuantTile;
    const auto* const in = reinterpret_cast<const float*>(job.call.in.row(first + row));
    for (std::int64_t g = begin; g < std::min(begin + kGroups, job.groups); ++g) {
      run(in, std::min(kQuantTile, rows - row), job.call.in.columns, g, job.interleaved,
          job.packed[tile * job.groups + g]);
    }
  };
  constexpr std::int64_t kOperations = 8;  // an element costs as much as so many multiply-adds
  job.context.for_each(pieces(rows, kQuantTile) * per_tile,
                       rows * job.call.in.columns * kOperations, body);
}

/// How the product is cut. Each part of W is cut by itself, so that a chunk lies in one part.
struct Cut {
  std::int64_t columns;  // per chunk
  std::int64_t resident_chunks;
  std::int64_t column_chunks;
  std::int64_t tiles;  // of the input, per chunk
  std::int64_t row_chunks;
};

Cut cut_product(const Job& job, std::int64_t rows) {
  constexpr std::int64_t kNearBytes = 1 << 20;  // of packed inputs, so that they stay in L2
  const auto tile_bytes = job.groups * static_cast<std::int64_t>(sizeof(PackedGroup));
  const int threads = job.context.pool->threads();
  Cut cut = {};
  cut.tiles = std::clamp(kNearBytes / tile_bytes, std::int64_t{1}, QuantizedChunk::kTiles);
  cut.row_chunks = pieces(rows, cut.tiles * kQuantTile);
  cut.columns = QuantizedChunk::kColumns;
  // Enough pieces for the threads to end together.
  while (cut.columns > kQuantTile &&
         job.call.weight.rows() * cut.row_chunks < 4 * threads * cut.columns) {
    cut.columns /= 2;
  }
  cut.resident_chunks = pieces(job.call.weight.resident.rows, cut.columns);
  cut.column_chunks = cut.resident_chunks + pieces(job.call.weight.streamed.rows, cut.columns);
  return cut;
}

/// Packed rows [first, first + rows) of the input by all of W.
void multiply(const Job& job, std::int64_t first, std::int64_t rows) {
  const Cut cut = cut_product(job, rows);
  const int threads = job.context.pool->threads();
  const auto finish = HWY_DYNAMIC_DISPATCH(finish_quantized);
  const auto body = [&](std::int64_t index, float* scratch) {
    const std::int64_t tile = index / cut.column_chunks * cut.tiles;
    const std::int64_t row = tile * kQuantTile;
    const std::int64_t column_chunk = index % cut.column_chunks;
    const bool resident = column_chunk < cut.resident_chunks;
    const TensorView& part = resident ? job.call.weight.resident : job.call.weight.streamed;
    const std::int64_t begin =
        (resident ? column_chunk : column_chunk - cut.resident_chunks) * cut.columns;
    const std::int64_t column = resident ? begin : job.call.weight.resident.rows + begin;
    QuantizedChunk chunk;
    chunk.in = job.packed + tile * job.groups;
    chunk.rows = std::min(cut.tiles * kQuantTile, rows - row);
    chunk.tiles = pieces(chunk.rows, kQuantTile);
    chunk.groups = job.groups;
    chunk.interleaved = job.interleaved;
    chunk.w = part.row(begin);
    chunk.w_dtype = part.dtype;
    chunk.columns = std::min(cut.columns, part.rows - begin);
    const std::int64_t next = begin + threads * cut.columns;
    chunk.w_next = next < part.rows ? part.row(next) : nullptr;
    job.product.sum(chunk, scratch, scratch + kSumFloats);
    finish(linear_end(job.call, first + row, column), chunk.rows, chunk.columns, scratch);
  };
  job.context.for_each(cut.row_chunks * cut.column_chunks,
                       rows * job.call.in.columns * job.call.weight.rows(), body);
}

}  // namespace

QuantizedProduct best_product() {
  if (amx_available()) return tile_product();
  if (vnni_available()) return byte_product();
  return avx2_available() ? pair_product() : portable_product();
}

void linear_quantized(const CpuContext& context, const LinearCall& call,
                      const QuantizedProduct& product) {
  const TensorView& in = call.in;
  const std::int64_t groups = pieces(in.columns, kQuantGroup);
  const std::int64_t tiles =
      kSharedBytes / (groups * static_cast<std::int64_t>(sizeof(PackedGroup)));
  if (tiles < 1) {
    throw DeviceError(
        fmt::format("linear: quantised rows of {} columns are too long to multiply; "
                    "run without compression",
                    in.columns));
  }
  const Job job = {context, call,
                   product, in.rows >= product.interleaves_from,
                   groups,  reinterpret_cast<PackedGroup*>(context.shared)};
  for (std::int64_t row = 0; row < in.rows; row += tiles * kQuantTile) {
    const std::int64_t rows = std::min(tiles * kQuantTile, in.rows - row);
    pack(job, row, rows);
    multiply(job, row, rows);
  }
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
