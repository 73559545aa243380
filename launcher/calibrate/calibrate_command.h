// `sluice calibrate`: measures this machine and writes its machine file.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "comm/world.h"
#include "kernels/device/error.h"
#include "launcher/calibrate/sampler.h"
#include "launcher/config/cli.h"

namespace sluice::launcher {

/// One rank measures; the others answer its messages, and tell what the hosts are. The table goes
/// to `out`, on rank 0. `say` is given the sentence of what went wrong, before the world ends.
ExitStatus calibrate(const CalibrateArguments& arguments, std::ostream& out,
                     const std::function<void(const std::string& sentence)>& say);

/// The same in a world that is there, and with other sizes: for tests. Every rank calls it; throws.
void calibrate_in(comm::World& world, const CalibrateArguments& arguments,
                  const CalibrationSizes& sizes, std::ostream& out);

}  // namespace sluice::launcher
