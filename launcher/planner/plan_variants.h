// What other machines would make of the same job.
#pragma once

#include <string>
#include <vector>

#include "launcher/planner/plan_request.h"

namespace sluice::launcher {

struct Variant {
  std::string what;              // "twice the host memory"
  double tokens_per_second = 0;  // 0: no plan fits
};

/// Estimates, comparable among themselves: the first is the machine as it is.
std::vector<Variant> variants_of(const PlanRequest& request);

/// A table of them.
std::string variants_text(const std::vector<Variant>& variants);

}  // namespace sluice::launcher
