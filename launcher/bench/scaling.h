// `sluice bench scaling`: the same work on more stages, and work that grows with them.
#pragma once

#include <iostream>
#include <string>

#include "launcher/bench/bench_command.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

/// As bench().
void bench_scaling(const BenchArguments& arguments, std::ostream& out, std::ostream& log);

/// The page's text, with @data@ where the data goes.
extern const char* const kScalingPage;

/// One HTML page that needs nothing else: throughput over stages, how each stage spent the run, and
/// when the devices of the run on the most stages worked. `data` is
/// {"title", "rows", "stages", "work"}: see scaling.cc.
std::string scaling_page(const Json& data);

}  // namespace sluice::launcher
