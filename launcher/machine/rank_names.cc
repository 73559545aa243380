#include "launcher/machine/rank_names.h"

namespace sluice::launcher {

std::string names_of(const std::vector<std::size_t>& ranks) {
  std::string names = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) names += i + 1 == ranks.size() ? " and " : ", ";
    names += std::to_string(ranks[i]);
  }
  return names;
}

}  // namespace sluice::launcher
