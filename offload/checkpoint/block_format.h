// Quantised rows of llama.cpp's files: blocks of elements that share scales. A row is a whole
// number of blocks. Nothing computes with blocks: rows are widened to f32 first.
// Source: ggml/src/ggml-common.h (layouts) and ggml-quants.c (dequantize_row_*) of
// github.com/ggml-org/llama.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::offload {

enum class BlockFormat : std::uint8_t {
  none,  // elements of a DType
  q4_0,  // 32 of 4 bits, one f16 scale
  q8_0,  // 32 of 8 bits, one f16 scale
  q4_k,  // 8 x 32 of 4 bits, scale and minimum of 6 bits each, f16 factors of both
  q6_k,  // 16 x 16 of 6 bits, scales of 8 bits, an f16 factor
};

/// Elements of a block; 1 without blocks.
constexpr std::int64_t block_elements(BlockFormat format) {
  switch (format) {
    case BlockFormat::none:
      return 1;
    case BlockFormat::q4_0:
    case BlockFormat::q8_0:
      return 32;
    case BlockFormat::q4_k:
    case BlockFormat::q6_k:
      return 256;
  }
  return 1;
}

/// Bytes of a block; 0 without blocks.
constexpr std::size_t block_bytes(BlockFormat format) {
  switch (format) {
    case BlockFormat::none:
      return 0;
    case BlockFormat::q4_0:
      return 2 + 16;
    case BlockFormat::q8_0:
      return 2 + 32;
    case BlockFormat::q4_k:
      return 2 + 2 + 12 + 128;
    case BlockFormat::q6_k:
      return 128 + 64 + 16 + 2;
  }
  return 0;
}

/// As llama.cpp spells it: "Q4_K". Empty without blocks.
std::string_view name_of(BlockFormat format);

/// Widens `count` blocks to count x block_elements f32: bit for bit what llama.cpp makes of them.
void widen_blocks(BlockFormat format, const std::byte* blocks, std::int64_t count, float* target);

}  // namespace sluice::offload
