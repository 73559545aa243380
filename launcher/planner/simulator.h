// A run in virtual time: the head's own rules (stage/flights.h), the schedule and the edges that
// the executor runs (stage/schedule.h, schedule_edges.h), every task priced by a CostModel. No
// device, no files, no clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/device/trace.h"
#include "launcher/planner/machine.h"
#include "stage/report.h"
#include "stage/stage_memory.h"

namespace sluice::launcher {

/// Sequences of a job, in order.
struct SimulatedRequest {
  std::int32_t prompt_tokens = 0;
  std::int32_t new_tokens = 0;  // that it ends after
  /// Of the prompt: the request before begins with them, too.
  std::int32_t shared_tokens = 0;
};

/// Everything that fixes a simulated run.
struct SimulatedJob {
  std::vector<stage::StageLayout> stages;                        // fit_cache() done
  std::vector<std::vector<offload::GroupPlacement>> placements;  // of each, by place_weights()
  std::vector<SimulatedRequest> requests;
};

struct SimulationOptions {
  /// Keep so many spans of each stage: what its resources did and when. Then every pass is
  /// simulated, and the run is cut short where a stage has that many. 0: none.
  std::size_t most_spans = 0;
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
  bool cut_short = false;                // by SimulationOptions::most_spans
  std::uint64_t passes_simulated = 0;    // ... and not interpolated
};

/// A simulation was given up: SimulationOptions::most_events.
struct TooManyEvents : Error {
  explicit TooManyEvents(const std::string& sentence) : Error(ExitStatus::failure, sentence) {}
};

/// A simulation came to a point from which nothing goes on.
struct StandsStill : Error {
  explicit StandsStill(const std::string& sentence) : Error(ExitStatus::failure, sentence) {}
};

/// Throws CapacityError where a request finds no room, as a run would; TooManyEvents; StandsStill.
SimulatedRun simulate(const SimulatedJob& job, const Machine& machine,
                      const SimulationOptions& options = {});

}  // namespace sluice::launcher
