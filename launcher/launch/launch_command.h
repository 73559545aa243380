// `sluice launch`: starts the ranks of a run, watches them, and starts them again where one was
// lost.
#pragma once

#include <string>
#include <vector>

#include "launcher/config/run_config.h"
#include "launcher/launch/mpirun_line.h"

namespace sluice::launcher {

struct LaunchArguments {
  RankStart start;
  int max_restarts = 10;
  std::vector<std::string> words;  // of the run: "generate", and its flags
  RunConfig config;                // of the run
};

/// The words of a run that goes on with what an earlier one left.
std::vector<std::string> resumed(const LaunchArguments& arguments);

/// Returns the exit status of the whole: the last run's; where this process was asked to stop,
/// comm::kStopped or 128 + its signal. Says what happens on standard error. Throws
/// ConfigError, IoError.
int launch(const LaunchArguments& arguments);

}  // namespace sluice::launcher
