// The tile registers of x86-64, numbered by template arguments. The compiler's own intrinsics want
// literal numbers, and GCC 12's do not say that they read memory.
#pragma once

#include <cstdint>

namespace sluice::kernels::tile {

/// Shapes of the eight registers (Intel SDM, LDTILECFG).
struct alignas(64) Shapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

static inline void configure(const Shapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }

static inline void release() { asm volatile("tilerelease"); }

template <int kTile>
static inline void zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

template <int kTile>
static inline void load(const std::byte* from, std::int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
static inline void store(void* to, std::int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
}

/// sums[m][n] += a[m][k] . b[k][n], of bf16, in f32.
template <int kSums, int kA, int kB>
static inline void multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kA), "i"(kB));
}

}  // namespace sluice::kernels::tile
