// The flags of `sluice bench serve`, apart from those of the other benchmarks.
#pragma once

#include <string>
#include <vector>

#include "launcher/config/bench_arguments.h"
#include "launcher/config/cli_help.h"
#include "launcher/config/given_flags.h"

namespace sluice::launcher {

FlagGroup serve_load_flags();

/// Whether `flag` says what is measured, and is not handed to the server.
bool is_serve_load_flag(const std::string& flag);

/// Reads `arguments.load` of a benchmark of servers, and adds a problem for what cannot be. Of
/// another benchmark it adds one for each of these flags. `run_flags`: those that are handed on.
void read_serve_load(const GivenFlags& given, BenchArguments& arguments,
                     std::vector<std::string>& problems);

}  // namespace sluice::launcher
