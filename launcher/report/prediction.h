// How long a run was said to take, as its report says it.
#pragma once

namespace sluice::launcher {

/// Loading apart.
struct Prediction {
  double total_seconds = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;

  /// Of a run that took so long; 0: as predicted, 0.1: a tenth longer.
  double error(double measured_seconds) const { return measured_seconds / total_seconds - 1; }
};

}  // namespace sluice::launcher
