// The tables printed at the end of a run: what came out, how fast, and what each stage's time and
// memory went to.
#pragma once

#include <string>
#include <vector>

#include "launcher/jobs/request_row.h"
#include "stage/report.h"

namespace sluice::launcher {

/// `stages` by rank. Rates of which the time is 0 are shown as "-".
std::string report_text(const std::vector<stage::StageReport>& stages, const stage::RunReport& run);

/// A line on what a resumed job took from its journal; empty: nothing.
std::string journal_text(const JournalUse& use);

}  // namespace sluice::launcher
