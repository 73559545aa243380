// A run in virtual time: the head's own rules (stage/flights.h), the schedule and the edges that
// the executor runs (stage/schedule.h, schedule_edges.h), every task priced by a CostModel. No
// device, no files, no clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/trace.h"
#include "launcher/planner/machine.h"
#include "stage/report.h"
#include "stage/stage_memory.h"

namespace sluice::launcher {

/// Sequences of a job, in order.
struct SimulatedRequest {
  std::int32_t prompt_tokens = 0;
  std::int32_t new_tokens = 0;  // that it ends after
};

/// Everything that fixes a simulated run.
struct SimulatedJob {
  std::vector<stage::StageLayout> stages;                        // fit_cache() done
  std::vector<std::vector<offload::GroupPlacement>> placements;  // of each, by place_weights()
  std::vector<SimulatedRequest> requests;
};

struct SimulationOptions {
  bool spans = false;  // keep what every resource did and when; then every pass is simulated
  /// Simulate every pass. Else decode steps that differ in their context alone are simulated now
  /// and then, and what lies between is interpolated.
  bool every_pass = false;
  /// Give up after so many: ends of tasks, messages, and rows of the passes that land. 0: never.
  std::uint64_t most_events = 0;
};

/// In the form of a real run's.
struct SimulatedRun {
  stage::RunReport run;
  std::vector<stage::StageReport> stages;
  std::vector<std::vector<Span>> spans;  // of each stage
  std::uint64_t passes_simulated = 0;    // ... and not interpolated
};

/// Throws CapacityError where a request finds no room, as the run would; Error where it gives up.
SimulatedRun simulate(const SimulatedJob& job, const Machine& machine,
                      const SimulationOptions& options = {});

}  // namespace sluice::launcher
