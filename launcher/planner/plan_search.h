// The outer search: GPU-batch size, GPU batches, micro-batches, tokens of a pass, attention on the
// host or streaming, types where they may be chosen. Every choice is scored by linear programs; the
// best are fitted to the byte and ranked by simulate().
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/planner/plan.h"
#include "launcher/planner/plan_builder.h"
#include "launcher/planner/plan_request.h"

namespace sluice::launcher {

struct SearchOptions {
  std::size_t built = 10;    // choices that are fitted to the byte
  double tasks = 1'000'000;  // that simulations may go through, in all; about a second
  double most_tasks = 4e6;   // the best plan is simulated if it has no more
};

struct FoundPlans {
  std::vector<Plan> plans;          // best first; at least one
  std::vector<LatencyPoint> curve;  // by growing latency: more tokens per second take longer
  std::size_t scored = 0;           // choices
};

/// Throws CapacityError where no plan fits, with the bytes that are missing, and where none is as
/// fast as PlanRequest::latency_limit asks, with the seconds of the fastest.
FoundPlans search_plans(const PlanRequest& request, const SearchOptions& options = {});

}  // namespace sluice::launcher
