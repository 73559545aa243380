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

/// Where the words of the run begin: at the first command that ranks can run together; else the
/// end.
std::vector<std::string>::const_iterator find_run(const std::vector<std::string>& words);

struct LaunchArguments {
  RankStart start;
  int max_restarts = 10;
  std::vector<std::string> words;  // of the run: its command, and the flags of that
  RunConfig config;                // of the run
};

}  // namespace sluice::launcher
