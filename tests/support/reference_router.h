// The oracle of kernels::Ops::route(): choices by sorting, in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/ops.h"

namespace sluice::reference {

/// What a row chooses, in its order of choice.
struct RowChoice {
  std::vector<std::int32_t> experts;
  std::vector<double> weights;
};

/// Numbers by their values, greatest first; of equals the earlier one.
inline std::vector<std::int32_t> by_value(const std::vector<double>& values) {
  std::vector<std::int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) {
    return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
  });
  return order;
}

/// Leaves the experts of the best groups, and makes the others worse than any number.
inline void drop_groups(std::vector<double>& compared, const kernels::RouterRule& rule) {
  const std::size_t size = compared.size() / static_cast<std::size_t>(rule.groups);
  std::vector<double> goods;
  for (std::size_t g = 0; g < static_cast<std::size_t>(rule.groups); ++g) {
    const auto begin = compared.begin() + static_cast<std::ptrdiff_t>(g * size);
    std::vector<double> group(begin, begin + static_cast<std::ptrdiff_t>(size));
    std::ranges::sort(group, std::greater<>());
    goods.push_back(std::accumulate(group.begin(), group.begin() + rule.group_best, 0.0));
  }
  const std::vector<std::int32_t> order = by_value(goods);
  for (std::size_t k = static_cast<std::size_t>(rule.kept_groups); k < order.size(); ++k) {
    std::fill_n(compared.begin() + order[k] * static_cast<std::ptrdiff_t>(size), size,
                -std::numeric_limits<double>::infinity());
  }
}

inline RowChoice route(const std::vector<double>& logits, const std::vector<double>& correction,
                       const kernels::RouterRule& rule) {
  std::vector<double> scores = logits;
  const double most = *std::ranges::max_element(logits);
  double all = 0;
  for (const double logit : logits) all += std::exp(logit - most);
  for (double& score : scores) {
    score = rule.score == kernels::RouterScore::sigmoid ? 1 / (1 + std::exp(-score))
                                                        : std::exp(score - most) / all;
  }
  std::vector<double> compared = scores;
  for (std::size_t e = 0; e < correction.size(); ++e) compared[e] += correction[e];
  drop_groups(compared, rule);
  RowChoice choice;
  choice.experts = by_value(compared);
  choice.experts.resize(static_cast<std::size_t>(rule.chosen));
  double sum = 0;
  for (const std::int32_t e : choice.experts) {
    choice.weights.push_back(scores[static_cast<std::size_t>(e)]);
    sum += choice.weights.back();
  }
  for (double& weight : choice.weights) {
    weight = (rule.normalised ? weight / sum : weight) * static_cast<double>(rule.scale);
  }
  return choice;
}

/// What routed rows must be: by expert, then by row.
struct RowsOfExperts {
  std::vector<std::int32_t> counts;
  std::vector<std::int32_t> rows;
  std::vector<double> weights;
};
inline RowsOfExperts rows_of(const std::vector<RowChoice>& choices, std::int32_t experts) {
  RowsOfExperts all;
  for (std::int32_t e = 0; e < experts; ++e) {
    const std::size_t before = all.rows.size();
    for (std::size_t row = 0; row < choices.size(); ++row) {
      const auto& chosen = choices[row].experts;
      const auto at = std::ranges::find(chosen, e);
      if (at == chosen.end()) continue;
      all.rows.push_back(static_cast<std::int32_t>(row));
      all.weights.push_back(choices[row].weights[static_cast<std::size_t>(at - chosen.begin())]);
    }
    all.counts.push_back(static_cast<std::int32_t>(all.rows.size() - before));
  }
  return all;
}

/// The rules of the families that run, and one with every part.
inline std::vector<kernels::RouterRule> router_rules() {
  using kernels::RouterScore;
  return {{.chosen = 2, .normalised = true},
          {.chosen = 4},
          {.chosen = 1, .scale = 2.5F},
          {.chosen = 12},
          {.chosen = 3, .score = RouterScore::sigmoid, .normalised = true, .scale = 2.5F},
          {.chosen = 4,
           .score = RouterScore::sigmoid,
           .normalised = true,
           .scale = 1.5F,
           .groups = 4,
           .kept_groups = 2,
           .group_best = 2},
          {.chosen = 3, .groups = 3, .kept_groups = 1}};
}

}  // namespace sluice::reference
