#pragma once

#include "launcher/model/family.h"

namespace sluice::launcher {

/// OPT, OPT-IML and Galactica.
const Family& opt_family();

}  // namespace sluice::launcher
