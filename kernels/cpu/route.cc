// Which experts each row goes to, and the rows in the order of their experts. Plain loops, alike on
// all instruction sets; next to the experts' products they cost nothing.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/operations.h"
#include "kernels/half.h"

namespace sluice::kernels {

namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

float value_of(const TensorView& vector, std::int64_t index) {
  if (vector.rows == 0) return 0;
  if (vector.dtype == DType::f32) return static_cast<const float*>(vector.data)[index];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(vector.data)[index];
  return vector.dtype == DType::f16 ? from_f16(bits) : from_bf16(bits);
}

/// One row of a router's logits on its way to its experts.
class Router {
 public:
  Router(float* scores, std::int64_t experts, const TensorView& correction, const RouterRule& rule)
      : scores_(scores),
        experts_(static_cast<std::int32_t>(experts)),
        correction_(correction),
        rule_(rule) {}

  void run(std::int32_t* chosen, float* weights) {
    if (rule_.score == RouterScore::sparse_mixer) return mix(chosen, weights);
    score();
    keep_groups();
    float sum = 0;
    for (std::int32_t k = 0; k < rule_.chosen; ++k) {
      chosen[k] = best(chosen, k, 0, experts_);
      weights[k] = scores_[chosen[k]];
      sum += weights[k];
    }
    for (std::int32_t k = 0; k < rule_.chosen; ++k) {
      if (rule_.normalised) weights[k] /= sum;
      weights[k] *= rule_.scale;
    }
  }

 private:
  void score() {
    if (rule_.score == RouterScore::sigmoid) {
      for (std::int32_t e = 0; e < experts_; ++e)
        scores_[e] = 1.0F / (1.0F + std::exp(-scores_[e]));
      return;
    }
    const float most = *std::max_element(scores_, scores_ + experts_);
    float sum = 0;
    for (std::int32_t e = 0; e < experts_; ++e) {
      scores_[e] = std::exp(scores_[e] - most);
      sum += scores_[e];
    }
    for (std::int32_t e = 0; e < experts_; ++e) scores_[e] /= sum;
  }

  float compared(std::int32_t expert) const {
    return scores_[expert] + value_of(correction_, expert);
  }

  /// The best of [first, end) that is none of the `count` experts at `but`, and not in a group that
  /// is out. Numbers that compare with nothing come last.
  std::int32_t best(const std::int32_t* but, std::int32_t count, std::int32_t first,
                    std::int32_t end) const {
    std::int32_t found = -1;
    float most = kNone;
    for (std::int32_t e = first; e < end; ++e) {
      if (is_out(e) || std::find(but, but + count, e) != but + count) continue;
      const float value = compared(e);
      if (found >= 0 && !(value > most)) continue;
      found = e;
      most = std::isnan(value) ? kNone : value;
    }
    return found;
  }

  bool is_out(std::int32_t expert) const {
    return (out_ >> static_cast<unsigned>(expert / (experts_ / rule_.groups)) & 1U) != 0;
  }

  void keep_groups() {
    if (rule_.kept_groups == rule_.groups) return;
    const std::int32_t size = experts_ / rule_.groups;
    float goods[kMostExpertGroups];
    for (std::int32_t g = 0; g < rule_.groups; ++g) {
      std::int32_t taken[kMostChosenExperts];
      const std::int32_t count = std::min({rule_.group_best, size, kMostChosenExperts});
      goods[g] = 0;
      for (std::int32_t k = 0; k < count; ++k) {
        taken[k] = best(taken, k, g * size, (g + 1) * size);
        goods[g] += compared(taken[k]);
      }
    }
    std::uint64_t kept = 0;
    for (std::int32_t k = 0; k < rule_.kept_groups; ++k) {
      std::int32_t found = -1;
      for (std::int32_t g = 0; g < rule_.groups; ++g) {
        if ((kept >> static_cast<unsigned>(g) & 1U) != 0) continue;
        if (found < 0 || goods[g] > goods[found]) found = g;
      }
      kept |= std::uint64_t{1} << static_cast<unsigned>(found);
    }
    out_ = ~kept;
  }

  /// Each of the two is weighed among those that are near it, the first being out for the second.
  void mix(std::int32_t* chosen, float* weights) const {
    for (std::int32_t k = 0; k < 2; ++k) {
      chosen[k] = best(chosen, k, 0, experts_);
      const float most = scores_[chosen[k]];
      float sum = 0;
      for (std::int32_t e = 0; e < experts_; ++e) {
        if (k == 1 && e == chosen[0]) continue;
        const float unit = std::max(std::fabs(scores_[e]), most);
        if ((most - scores_[e]) / unit > rule_.nearness) continue;
        sum += std::exp(scores_[e] - most);
      }
      weights[k] = rule_.scale / sum;
    }
  }

  float* scores_;
  std::int32_t experts_;
  const TensorView& correction_;
  const RouterRule& rule_;
  std::uint64_t out_ = 0;  // groups
};

}  // namespace

void route(const CpuContext& context, const RoutedRows& routed, TensorView logits,
           TensorView correction, const RouterRule& rule) {
  const std::int64_t experts = logits.columns;
  const std::int64_t chosen = rule.chosen;
  context.for_each(logits.rows, logits.rows * experts * (chosen + 20),
                   [&](std::int64_t row, float*) {
                     Router(reinterpret_cast<float*>(logits.row(row)), experts, correction, rule)
                         .run(routed.chosen + row * chosen, routed.scores + row * chosen);
                   });
  std::fill_n(routed.counts, experts, 0);
  for (std::int64_t i = 0; i < logits.rows * chosen; ++i) ++routed.counts[routed.chosen[i]];
  std::int32_t next[kMostExperts];
  std::int32_t before = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    next[e] = before;
    before += routed.counts[e];
  }
  for (std::int64_t i = 0; i < logits.rows * chosen; ++i) {
    const std::int32_t at = next[routed.chosen[i]]++;
    routed.rows[at] = static_cast<std::int32_t>(i / chosen);
    routed.weights[at] = routed.scores[i];
  }
}

}  // namespace sluice::kernels
