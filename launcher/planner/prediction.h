// What a run will take, said before it begins: a simulation of its job, cut short where the job is
// long.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/config/run_config.h"
#include "launcher/jobs/request_row.h"
#include "launcher/planner/machine.h"
#include "launcher/planner/paper_run.h"
#include "launcher/planner/simulator.h"
#include "launcher/report/prediction.h"

namespace sluice::launcher {

struct PredictedRun {
  Prediction prediction;
  /// Of the whole job. What was not simulated of it is extrapolated.
  SimulatedRun simulated;
  std::int64_t rows_simulated = 0;  // the first of the job
  bool is_whole = true;             // ... which are all
  bool is_alike = false;            // all rows were taken to be of their mean lengths
};

/// The lengths of a job's sequences (JobScan::sequences_of() of its rows); of rows that nobody has
/// looked at those of the others, in turn. At most `most`. Answers count as long as they may
/// become: nobody knows where they end.
std::vector<SimulatedRequest> requests_of(const JobScan& scan, std::size_t most);

/// Has what a prediction needs: rates of products and of memory.
bool predicts(const Machine& machine);

/// A job of so many sequences (`rows`), as `job` begins. Of a long job a first part is simulated:
/// rows for about a tenth of a second, but enough to fill the slots a few times. The rest takes as
/// long as the last half of that part. `options`: of each simulation. Throws what simulate()
/// throws.
PredictedRun predict(SimulatedJob job, std::int64_t rows, const Machine& machine,
                     const SimulationOptions& options = {});

/// The same for somebody who waits for it: of more rows, those of a few seconds. Where the job is
/// too large even for that, all of its rows count as alike, and the slots are filled once.
PredictedRun predict_patiently(SimulatedJob job, std::int64_t rows, const Machine& machine,
                               std::uint64_t most_events = 3'000'000);

}  // namespace sluice::launcher
