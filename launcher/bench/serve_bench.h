// `sluice bench serve`: what clients see of a server under load.
#pragma once

#include <iostream>

#include "launcher/bench/bench_command.h"

namespace sluice::launcher {

/// As bench(). Throws IoError where the server is not reached, and Error where no request is
/// answered.
void bench_serve(const BenchArguments& arguments, std::ostream& out, std::ostream& log);

}  // namespace sluice::launcher
