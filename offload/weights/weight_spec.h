// A weight as whoever computes with it asks for it: by sluice's own name and shape.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device/dtype.h"
#include "offload/policy.h"

namespace sluice::offload {

enum class WeightUse {
  matrix,  // multiplied with, or gathered from: quantised where the policy says so
  table,   // added as it is: never quantised
  scale,   // a vector of factors: made-up ones are 1
  bias,    // a vector that is added
};

struct WeightSpec {
  /// "embedding.tokens.weight"; of a decoder layer "layers.3.mlp.up.weight". Empty: absent.
  std::string name;
  std::int64_t rows = 0;  // 1: a vector of `columns`
  std::int64_t columns = 0;
  WeightUse use = WeightUse::matrix;

  /// What its `dense` elements are kept as.
  DType kept_as(Compression compression, DType dense) const {
    const bool quantised = compression != Compression::none && use == WeightUse::matrix && rows > 1;
    if (!quantised) return dense;
    return compression == Compression::eight_bit ? DType::q8 : DType::q4;
  }
};

}  // namespace sluice::offload
