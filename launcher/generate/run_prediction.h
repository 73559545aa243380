// How long a run will take, said by the head from what the machine's file knows.
#pragma once

#include <optional>

#include "comm/world.h"
#include "launcher/config/run_config.h"
#include "launcher/generate/rank.h"
#include "launcher/jobs/request_row.h"
#include "launcher/planner/prediction.h"

namespace sluice::launcher {

/// Nothing where there is no machine file, or none of this kind of device, where the rows are not
/// known, or where predicting takes longer than a second or two. Never fails a run: what goes wrong
/// is no prediction. `device_kind`: BackendInfo::kind. Not collective.
std::optional<PredictedRun> predict_run(const RunConfig& config, const OpenedModel& model,
                                        const JobScan& scan, const SequenceTokens& tokens,
                                        const comm::World& world, const std::string& device_kind);

}  // namespace sluice::launcher
