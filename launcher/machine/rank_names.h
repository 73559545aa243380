// Ranks in sentences.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace sluice::launcher {

/// "rank 3", "ranks 0 and 1", "ranks 0, 1 and 2".
std::string names_of(const std::vector<std::size_t>& ranks);

}  // namespace sluice::launcher
