// The dots of codes by tiles: TDPBUSD multiplies 16 rows of W by 16 rows of the input over 64
// elements, which is one group.
#include <immintrin.h>

#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/linear_quantized_avx512-inl.h"

namespace sluice::kernels {

namespace {

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

/// Tile registers, which the intrinsics want as literals: 0 products, 1 weights, 2 inputs.
struct TileProducts {
  static void start(std::int64_t weight_rows, std::int64_t input_rows) {
    TileConfig config;
    config.row_bytes[0] = config.row_bytes[2] = static_cast<std::uint16_t>(input_rows * 4);
    config.row_bytes[1] = 64;
    config.rows[0] = config.rows[1] = static_cast<std::uint8_t>(weight_rows);
    config.rows[2] = 16;
    _tile_loadconfig(&config);
  }

  static void multiply(const Block& block, std::int64_t group, std::int64_t of_panel,
                       const PackedGroup& in, std::int64_t input_rows, std::int32_t* products) {
    _tile_zero(0);
    if (block.nibbles) {
      _tile_loadd(1, block.codes + of_panel * kQuantTile * kQuantGroup, kQuantGroup);
    } else {
      _tile_loadd(1, block.w + group * kQuantGroup, block.row_bytes);
    }
    _tile_loadd(2, in.codes, input_rows * 4);
    _tile_dpbusd(0, 1, 2);
    _tile_stored(0, products, input_rows * 4);
  }

  static void end() { _tile_release(); }
};

}  // namespace

QuantizedProduct tile_product() { return {2, sum_chunk<TileProducts>}; }

}  // namespace sluice::kernels
