// Which keys sparse attention keeps (kernels::AttentionRule::kept_millionths), in double precision.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sluice::reference {

/// `weights`: of the softmax, of the query heads that share a KV head: [heads][key], the newest key
/// last. kept_millionths 0: all are kept.
inline std::vector<bool> kept_keys(const std::vector<std::vector<double>>& weights,
                                   std::int32_t kept_millionths) {
  const std::size_t old = weights.front().size() - 1;
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t key = 0; key < old; ++key) {
    double sum = 0;
    for (const std::vector<double>& of_head : weights) sum += of_head[key];
    order.emplace_back(-sum, key);
  }
  std::sort(order.begin(), order.end());
  std::vector<bool> kept(old + 1, kept_millionths == 0);
  kept[old] = true;
  const double share = static_cast<double>(old) * kept_millionths / 1e6;
  for (std::size_t i = 0; i < old && static_cast<double>(i) < share; ++i) {
    kept[order[i].second] = true;
  }
  return kept;
}

}  // namespace sluice::reference
