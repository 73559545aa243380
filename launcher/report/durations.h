// Times as people read them.
#pragma once

#include <string>

namespace sluice::launcher {

/// "0.42 s", "12.3 s", "3 min 20 s", "2 h 05 min", "1 d 03 h"; negative and not finite: "?".
std::string format_seconds(double seconds);

}  // namespace sluice::launcher
