// What the planner chose, in figures: printed, written as YAML, compared with runs.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/planner/busy_seconds.h"
#include "launcher/planner/stage_papers.h"
#include "offload/memory_plan.h"
#include "stage/stage_config.h"

namespace sluice::launcher {

struct PlannedStage {
  stage::StageConfig config;  // layers and policy chosen; budgets as they were asked for
  offload::MemoryPlan memory;
  StageRoom room;
  PassSeconds prefill;  // of a pass
  PassSeconds decode;
  StageBusy busy;
};

/// Of weights, cache and activations.
bool same_shares(const offload::Policy& one, const offload::Policy& other);

struct JobSeconds {
  double total = 0;
  double prefill = 0;
  double decode = 0;
  double latency = 0;  // of a sequence, from its start to its last token
};

struct Plan {
  stage::Batching batching;  // micro_batches is said
  std::vector<PlannedStage> stages;
  bool even_layers = true;      // the layers are those of a run that is not told them
  std::int64_t sequences = 0;   // of the job
  double generated_tokens = 0;  // of the job
  JobSeconds seconds;
  bool simulated = false;  // `seconds` are simulate()'s; else from busy resources alone

  double tokens_per_second() const {
    return seconds.total > 0 ? generated_tokens / seconds.total : 0;
  }
  std::int32_t slots() const { return batching.slots(static_cast<std::int32_t>(stages.size())); }
};

/// What a sequence takes, and what all of them make per second together.
struct LatencyPoint {
  double latency = 0;
  double tokens_per_second = 0;
};

}  // namespace sluice::launcher
