// What `sluice launch` is asked for.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "launcher/config/run_config.h"

namespace sluice::launcher {

/// How the ranks of a run are started.
struct RankStart {
  int ranks = 1;
  std::string hosts;      // mpirun's --host; empty: none
  std::string hostfile;   // likewise
  std::string interface;  // that hosts talk over; empty: what Open MPI takes
  bool is_root = false;
  bool is_one_host = true;
};

/// Whether nothing says that the ranks go to other hosts: neither flags, nor the variables of a
/// scheduler that gave several.
bool stays_on_host(const RankStart& start, const std::function<const char*(const char*)>& variable);

struct LaunchArguments {
  RankStart start;
  int max_restarts = 10;
  std::vector<std::string> words;  // of the run: "generate", and its flags
  RunConfig config;                // of the run
};

}  // namespace sluice::launcher
