// Which weights of a model are quantised, and to what: asked by the sources that have them so, and
// by those who count bytes without loading.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device/dtype.h"
#include "offload/policy.h"

namespace sluice::offload {

struct WeightCompression {
  Compression kind = Compression::none;
  /// Canonical names of matrices that stay as they are, besides all vectors: tables of which the
  /// operations want dense rows.
  std::vector<std::string> dense_names;

  /// What a weight [rows, columns] of `dense` elements is kept as.
  DType dtype_of(std::string_view name, std::int64_t rows, DType dense) const {
    const bool quantised = kind != Compression::none && rows > 1 &&
                           std::ranges::find(dense_names, name) == dense_names.end();
    if (!quantised) return dense;
    return kind == Compression::eight_bit ? DType::q8 : DType::q4;
  }
};

}  // namespace sluice::offload
