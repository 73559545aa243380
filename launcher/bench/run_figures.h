// What a benchmark takes from reports of runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/json/json.h"

namespace sluice::launcher {

/// How the stages of a run spent a phase, as shares of its wall time; added to 1 with what the
/// executor did not get to.
struct StageShares {
  double compute = 0;
  double weights = 0;      // stands still for weights
  double kv = 0;           // ... KV cache, or the host's attention
  double activations = 0;  // ... hidden states of host or disk, or results
  double message = 0;      // ... hidden states of the stage before
  double no_pass = 0;      // ... the next pass: the bubble
  double other = 0;
};

struct RunFigures {
  double prefill_rate = 0;  // prompt tokens per second
  double decode_rate = 0;   // tokens of decode steps per second
  double rate = 0;          // answer tokens per second of the whole run, loading apart
  double seconds = 0;
  double predicted_seconds = 0;     // 0: the machine has no machine file
  std::vector<StageShares> stages;  // of the whole run
  std::string bound;                // of the stage that computes longest: what bounds its decode
  double of_bound = 0;              // ... and its share of that resource's measured rate
  double bubble = 0;                // mean over stages: stands still for passes and messages
};

/// Throws InputError for a report that is not one.
RunFigures figures_of(const Json& report);

/// Mean and sample deviation.
struct Spread {
  double mean = 0;
  double deviation = 0;  // 0: fewer than two values
};
Spread spread_of(const std::vector<double>& values);

}  // namespace sluice::launcher
