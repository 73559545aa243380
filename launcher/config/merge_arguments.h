// What `sluice merge` is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::launcher {

constexpr std::uint32_t kMostMergedFiles = 1U << 14;

struct MergeArguments {
  std::vector<std::string> files;  // outputs of `sluice generate`, plain, gzip or zstd
  std::string output;              // as its ending says
  std::string input;               // of the job; empty: the records stay in the files' order
  bool overwrite = false;          // an output that is there
};

}  // namespace sluice::launcher
