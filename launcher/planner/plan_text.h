// A plan as people read it.
#pragma once

#include <string>
#include <vector>

#include "launcher/planner/plan.h"
#include "launcher/planner/plan_request.h"

namespace sluice::launcher {

/// Batching, a table of the stages (layers, shares, bytes per tier), a table of how long a pass
/// keeps each resource busy, and the prediction.
std::string plan_text(const PlanRequest& request, const Plan& plan);

/// One line: "16 x 4 sequences in 2 micro-batches, weights 20/80/0, ..., 11.2 tokens/s".
std::string plan_line(const Plan& plan);

/// "144 sequences of 512 + 32 tokens: prefill 4 s, decode 30 s, in all 34 s (0.01 h), 11.2
/// tokens/s".
std::string job_text(const Plan& plan);

/// Tokens per second over the seconds that a sequence takes, drawn with letters; some lines. Empty:
/// there is only one point.
std::string curve_text(const std::vector<LatencyPoint>& curve);

}  // namespace sluice::launcher
