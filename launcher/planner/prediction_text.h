// A run beside its prediction, in words and as a table.
#pragma once

#include <string>
#include <vector>

#include "launcher/planner/prediction.h"
#include "stage/report.h"

namespace sluice::launcher {

/// "predicted: 34 s (prefill 4 s, decode 30 s)", one line; behind it what is not counted.
std::string prediction_line(const Prediction& prediction, const RunConfig& config);

/// What predictions and plans leave out of a run's time, where it has that: a list of names behind
/// "; not counted: ", or nothing.
std::string not_counted(bool guesses, bool adapters);

/// Measured beside predicted, also of each stage's resources.
std::string prediction_text(const PredictedRun& predicted,
                            const std::vector<stage::StageReport>& stages,
                            const stage::RunReport& run);

}  // namespace sluice::launcher
