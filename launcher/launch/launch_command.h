// `sluice launch`: starts the ranks of a run, watches them, and starts them again where one was
// lost.
#pragma once

#include <string>
#include <vector>

#include "launcher/config/launch_arguments.h"

namespace sluice::launcher {

/// The words of a run that goes on with what an earlier one left.
std::vector<std::string> resumed(const LaunchArguments& arguments);

/// Returns the exit status of the whole: the last run's; where this process was asked to stop,
/// ExitStatus::stopped or 128 + its signal. Says what happens on standard error. Throws
/// ConfigError, IoError.
int launch(const LaunchArguments& arguments);

}  // namespace sluice::launcher
