// The inner loops of attention(): tiles of scores, tiles of weighted values, and the fetching of
// rows ahead of their use.
//
// Every instruction set has its own copy (Highway), hence the toggling include guard.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#if defined(SLUICE_KERNELS_CPU_ATTENTION_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#undef SLUICE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#else
#define SLUICE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#endif

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/dot_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

/// Rows of the tile that adds values: with four vectors of the head, 16 sums or 12.
constexpr int kValueRows = HWY_MAX_BYTES >= 64 ? 4 : 3;
constexpr int kValueVectors = 4;
/// Of a lone row.
constexpr int kLoneVectors = 8;
/// Keys whose values are added between two steps of fetching.
constexpr std::int64_t kFetchKeys = 8;

/// Rows of a cache are counted in bytes, whatever they hold.
using Byte = std::uint8_t;

/// The keys of a block, as kBlockKeys pointers to rows (of keys that are not there: any row); the
/// values lie `values_offset` bytes further.
struct BlockRows {
  const Byte* const* keys;
  std::int64_t values_offset;
};

/// The rows of the next block, which are fetched while this one is worked on: its keys during the
/// scores, its values from the softmax on.
struct NextRows {
  const Byte* const* keys;  // or null: nothing is fetched
  std::int64_t values_offset;
  std::int64_t row_bytes;
};

/// Fetches the rows of a block into the second-level cache, spread evenly over `steps` calls of
/// step(). A processor can have few reads under way. It waits where many are asked for at once, and
/// its memory idles where none are. Its own prefetching does not help: the rows of a head lie in
/// runs as short as pages. Reads into the first-level cache are left to the rows in use.
class RowFetch {
 public:
  RowFetch(const NextRows& next, std::int64_t offset, std::int64_t steps)
      : row_(next.keys),
        end_(next.keys == nullptr ? nullptr : next.keys + kBlockKeys),
        offset_(offset),
        bytes_(next.row_bytes),
        pace_((kBlockKeys * kUnit + steps - 1) / steps) {}

  HWY_INLINE void step() {
    due_ += pace_;
    for (; due_ >= kUnit && row_ != end_; due_ -= kUnit) {
      const Byte* line = *row_++ + offset_;
      const Byte* const last = line + bytes_;
      do {
        constexpr int kIntoL2 = 2;
        __builtin_prefetch(line, 0, kIntoL2);
        line += 64;
      } while (line < last);
    }
  }

 private:
  static constexpr std::int64_t kUnit = 1024;  // of a row

  const Byte* const* row_;
  const Byte* const* end_;
  std::int64_t offset_;
  std::int64_t bytes_;
  std::int64_t pace_;
  std::int64_t due_ = 0;
};

/// Some rows of weights [rows, kBlockKeys] and of sums [rows, stride], and the values, which begin
/// `offset` bytes into each row of `rows`.
struct ValueTile {
  const float* weight;
  const Byte* const* rows;
  std::int64_t offset;
  float* sum;
  std::int64_t stride;
};

/// sum[r] += weight[r][key] * value[key] for keys [from, to), in order; kVectors vectors of the
/// head. One step of `fetch` for every kFetchKeys keys.
template <int kRows, int kVectors, class T>
HWY_INLINE void add_values(const ValueTile& tile, std::int64_t from, std::int64_t to,
                           RowFetch& fetch) {
  const Floats d;
  Vector total[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = hn::LoadU(d, tile.sum + r * tile.stride + v * kLanes);
    }
  }
  const float* const weight = tile.weight;
  const Byte* const* const rows = tile.rows;
  const std::int64_t offset = tile.offset;
  for (std::int64_t key = from; key < to;) {
    fetch.step();
    for (const std::int64_t stop = std::min(to, key + kFetchKeys); key < stop; ++key) {
      const T* const row = reinterpret_cast<const T*>(rows[key] + offset);
      Vector w[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) w[r] = hn::Set(d, weight[r * kBlockKeys + key]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const Vector value = load(d, row + v * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) total[r][v] = hn::MulAdd(w[r], value, total[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(total[r][v], d, tile.sum + r * tile.stride + v * kLanes);
    }
  }
}

/// Elements of a key that are multiplied without a jump: a usual head, or a half.
constexpr std::int64_t kTurn = 64;

/// score[r][c] = query[r] . key[c] for kRows queries [kRows, stride] and kTileColumns keys, of
/// whole vectors; scores have rows of kBlockKeys. The sums are those of dot_tile(), bit for bit.
template <int kRows, class T>
HWY_INLINE void score_tile(const float* query, std::int64_t stride, const T* const* keys,
                           std::int64_t width, float* score) {
  const Floats d;
  Vector sum[kRows][kTileColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kTileColumns; ++c) sum[r][c] = hn::Zero(d);
  }
  const auto add_products = [&](std::int64_t i) HWY_ATTR {
    Vector x[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) x[r] = hn::LoadU(d, query + r * stride + i);
#pragma GCC unroll 8
    for (int c = 0; c < kTileColumns; ++c) {
      const Vector key = load(d, keys[c] + i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][c] = hn::MulAdd(x[r], key, sum[r][c]);
    }
  };
  std::int64_t i = 0;
  for (; i + kTurn <= width; i += kTurn) {
#pragma GCC unroll 16
    for (std::int64_t v = 0; v < kTurn; v += kLanes) add_products(i + v);
  }
  for (; i < width; i += kLanes) add_products(i);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    hn::StoreU(sum_lanes(d, sum[r][0], sum[r][1], sum[r][2], sum[r][3]), hn::CappedTag<float, 4>(),
               score + r * kBlockKeys);
  }
}

/// score_tile() of `rows` queries, at most kRows at a time.
template <int kRows, class T>
HWY_INLINE void score_rows(std::int64_t rows, const float* query, std::int64_t stride,
                           const T* const* keys, std::int64_t width, float* score) {
  for (; rows >= kRows; rows -= kRows) {
    score_tile<kRows>(query, stride, keys, width, score);
    query += kRows * stride;
    score += kRows * kBlockKeys;
  }
  if constexpr (kRows > 1) {
    if (rows > 0) score_rows<kRows - 1>(rows, query, stride, keys, width, score);
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SLUICE_KERNELS_CPU_ATTENTION_TILES_INL_H_
