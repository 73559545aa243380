// kernels::AttentionRule as attention's kernels take it: how a score comes from the product of a
// query with a key, and which keys a query sees.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/cuda/tensor_core.cuh"
#include "kernels/ops.h"

namespace sluice::cuda {

/// Scores are in some unit: 1, or log2(e) where exponentials are powers of two.
struct ScoreRule {
  float factor;     // on products; over the soft cap, where there is one
  float cap;        // > 0: the score is cap tanh(product)
  float alibi;      // times a head's slope and the distance; 0: none
  int alibi_heads;  // the largest power of two that is not above the number of query heads
  int window;       // keys that a query sees, at most
  bool plain;       // a factor and nothing else

  /// As kernels::alibi_slope(), in this unit.
  __device__ float slope(int query_head) const {
    const int behind = query_head - alibi_heads;
    const auto eighths = static_cast<float>(behind < 0 ? -8 * (query_head + 1) : -8 * behind - 4);
    return alibi == 0 ? 0.0F : alibi * exp2f(eighths / static_cast<float>(alibi_heads));
  }

  /// The first key that a query at `position` sees.
  __device__ int first_key(int position) const { return max(0, position - window + 1); }

  /// The score of a product that was multiplied by `factor`. distance: the key's position less the
  /// query's. kFast: for activations of 16 bits, which round more than tanh_fast() does.
  template <bool kFast = false>
  __device__ float operator()(float product, float slope, int distance) const {
    float score = product;
    if (cap > 0) score = cap * (kFast ? tanh_fast(product) : tanhf(product));
    score += slope * static_cast<float>(distance);
    return distance > -window ? score : -INFINITY;
  }
};

inline ScoreRule score_rule(const kernels::AttentionRule& rule, int query_heads, float unit) {
  const bool caps = rule.soft_cap > 0;
  ScoreRule made{caps ? rule.scale / rule.soft_cap : rule.scale * unit,
                 caps ? rule.soft_cap * unit : 0.0F,
                 rule.alibi * unit,
                 1,
                 rule.window > 0 ? rule.window : std::numeric_limits<int>::max(),
                 !caps && rule.alibi == 0 && rule.window <= 0};
  while (made.alibi_heads <= query_heads / 2) made.alibi_heads *= 2;
  return made;
}

}  // namespace sluice::cuda
