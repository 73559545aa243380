// A machine's main figures as a table for people.
#pragma once

#include <string>

#include "launcher/planner/machine.h"

namespace sluice::launcher {

std::string machine_table(const Machine& machine);

}  // namespace sluice::launcher
