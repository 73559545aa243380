// What `sluice score` is asked for beside a run's configuration.
#pragma once

#include <string>

namespace sluice::launcher {

struct ScoreArguments {
  std::string prefix_file;  // its text stands in front of every context; empty: none
  bool bos = true;          // contexts get the model's BOS token
};

}  // namespace sluice::launcher
