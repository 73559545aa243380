// How long a job takes whose passes take so long: good enough to rank plans; simulate() has the
// last word.
#pragma once

#include <vector>

#include "launcher/planner/busy_seconds.h"
#include "launcher/planner/plan.h"
#include "launcher/planner/plan_request.h"

namespace sluice::launcher {

/// Prompts and answers of mean length.
PassMix pass_mix(const PlannedJob& job);

/// Passes of a stage in the whole job, of each kind.
struct PassCounts {
  double prefills = 0;
  double decodes = 0;
};
PassCounts pass_counts(const PlannedJob& job, const PassMix& mix, const stage::Batching& batching,
                       std::int32_t stages);

/// `prefill`, `decode`: seconds of a pass, by stage. `messages`: of all that a pass sends, from
/// stage to stage and back to the head, one after the other.
JobSeconds job_seconds(const PlannedJob& job, const PassMix& mix, const stage::Batching& batching,
                       const std::vector<double>& prefill, const std::vector<double>& decode,
                       double messages);

}  // namespace sluice::launcher
