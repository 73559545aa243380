// Stands in for linear_amx.cc on processors other than x86-64. amx_available() is false there, so
// nothing here is called.
#include <cstdlib>

#include "kernels/cpu/linear_amx.h"

namespace sluice::kernels {

void pack_tile(const float*, const PackedRows&, std::int64_t, std::int64_t) { std::abort(); }

void multiply_tiles(const TileChunk&, float*) { std::abort(); }

void read_sums(const TileChunk&, const float*, std::int64_t, std::int64_t, float*) { std::abort(); }

}  // namespace sluice::kernels
