// A machine's main figures as a table for people.
#pragma once

#include <string>

#include "launcher/planner/machine.h"

namespace sluice::launcher {

std::string machine_table(const Machine& machine);

/// A line that asks for a quiet machine, where a fifth of the figures vary by more than a fifth;
/// else nothing.
std::string restless_line(const Machine& machine);

}  // namespace sluice::launcher
