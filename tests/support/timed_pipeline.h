// A pipeline of timed stages (timed_engine.h) over slow links (delayed_world.h): everything between
// the head and the kernels is the program's own.
#pragma once

#include <chrono>
#include <vector>

#include "comm/world.h"
#include "stage/report.h"
#include "stage/request.h"
#include "stage/stage_memory.h"
#include "tests/support/timed_engine.h"

namespace sluice::support {

struct TimedPipelineOptions {
  stage::Batching batching;  // max_sequence_tokens set
  std::int32_t layers_per_stage = 4;
  std::vector<TimedCosts> costs;  // by stage
  std::chrono::nanoseconds link_delay{0};
};

struct TimedPipelineRun {
  stage::RunReport run;           // of the head
  std::uint64_t passes = 0;       // of a stage; all stages have the same
  std::vector<LaneClock> clocks;  // by stage
};

/// One rank's part: a stage of a small model, all of it on the device. On rank 0 `job` is not null.
/// The clock and (rank 0) the run of the result are this rank's.
struct TimedRankRun {
  stage::RunReport run;
  std::uint64_t passes = 0;
  LaneClock clock;
};
TimedRankRun run_timed_rank(const TimedPipelineOptions& options, comm::World& world,
                            stage::Job* job);

/// All ranks as threads of this process.
TimedPipelineRun run_timed_pipeline(const TimedPipelineOptions& options, stage::Job& job);

}  // namespace sluice::support
