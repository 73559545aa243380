// Cuts a stage's run into phases: what the trace counted and how long it took, in all passes and in
// those that only decode.
#pragma once

#include <chrono>

#include "kernels/device/trace.h"
#include "stage/report.h"

namespace sluice::stage {

/// Totals of `trace` so far.
ActivityTotals totals_of(const Trace& trace);

/// One thread.
class PhaseMeter {
 public:
  using Now = Clock::time_point (*)();

  /// `trace` must outlive it.
  explicit PhaseMeter(const Trace& trace, Now now = &Clock::now) : trace_(trace), now_(now) {}

  /// The run begins: what was counted so far is loading's.
  void begin();
  /// A pass begins; the time since the last call belongs to the pass before. So does most of the
  /// computing: the stage runs ahead of its device by one pass at most.
  void next_pass(bool decodes, const ComputeWork& work);
  /// The run is over.
  void end();

  const ActivityTotals& load() const { return load_; }
  const PhaseReport& run() const { return run_; }
  const PhaseReport& decode() const { return decode_; }

 private:
  void close_pass();

  const Trace& trace_;
  Now now_;
  ActivityTotals load_;
  PhaseReport run_;
  PhaseReport decode_;
  ActivityTotals last_;
  Clock::time_point last_time_;
  bool decodes_ = false;  // the pass under way
  ComputeWork work_;      // ... and what it takes
  bool in_pass_ = false;
};

}  // namespace sluice::stage
