// `sluice bench`: runs `sluice generate` for real, several times, and makes tables of its reports;
// or puts load on a server, and says what clients see.
#pragma once

#include <iostream>

#include "launcher/config/bench_arguments.h"

namespace sluice::launcher {

/// Tables go to `out`, a line for each run to `log`. Runs are interleaved: the first repetition of
/// everything, then the second. Throws ConfigError, IoError, and Error with a run's own exit
/// status and last words where it fails.
void bench(const BenchArguments& arguments, std::ostream& out = std::cout,
           std::ostream& log = std::cerr);

}  // namespace sluice::launcher
