// A run beside its prediction, in words and as a table.
#pragma once

#include <string>
#include <vector>

#include "launcher/planner/prediction.h"
#include "stage/report.h"

namespace sluice::launcher {

/// "predicted: 34 s (prefill 4 s, decode 30 s)", one line.
std::string prediction_line(const Prediction& prediction);

/// Measured beside predicted, also of each stage's resources.
std::string prediction_text(const PredictedRun& predicted,
                            const std::vector<stage::StageReport>& stages,
                            const stage::RunReport& run);

}  // namespace sluice::launcher
