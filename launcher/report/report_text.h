// The tables printed at the end of a run: what came out, how fast, and what each stage's time and
// memory went to.
#pragma once

#include <string>
#include <vector>

#include "stage/report.h"

namespace sluice::launcher {

/// `stages` by rank. Rates of which the time is 0 are shown as "-".
std::string report_text(const std::vector<stage::StageReport>& stages, const stage::RunReport& run);

}  // namespace sluice::launcher
