// Says which decode steps of a simulated run need not be simulated. Steps that differ in their
// context alone take times that change evenly: some are simulated, and what lies between two of
// them is the mean of both, times their number. A part of the simulator.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "stage/report.h"

namespace sluice::launcher {

/// The numbers of a stage::PhaseReport, which may be added up in parts.
constexpr std::size_t kPhaseCounts = 7 + 3 * kActivityCount;
using CountedPhase = std::array<double, kPhaseCounts>;
CountedPhase counted(const stage::PhaseReport& phase);
void add(stage::PhaseReport& phase, const CountedPhase& more);

/// What had happened at a moment, or between two.
struct Progressed {
  double seconds = 0;
  std::vector<CountedPhase> phases;  // of each stage: the run's, then decode's
};
void add(Progressed& sum, const Progressed& more, double factor);

class SteadyState {
 public:
  /// Rounds that are measured together: one, or as many as a page has tokens, where pages that are
  /// full are written to disk.
  explicit SteadyState(std::int32_t window) : window_(window) {}

  /// A pass landed that was like those under way: decode steps, and the next of its micro-batch
  /// took its place. `under_way`: passes. True: a round is complete; say what had happened by now.
  bool landed(std::size_t under_way);
  /// ... Rounds that may be passed over now; 0: go on. `left`: rounds before a request ends.
  std::int32_t round(Progressed now, std::int32_t left);
  /// Another kind of pass.
  void disturbed();

  /// What was passed over so far.
  const Progressed& passed_over() const { return passed_over_; }
  /// No rounds come any more.
  void finish();

 private:
  struct Gap {
    std::int32_t rounds = 0;
    Progressed before;  // a round's
  };

  static constexpr std::size_t kMostRounds = 8;
  std::int32_t rounds_to_measure() const;

  const std::int32_t window_;
  std::size_t landings_ = 0;
  std::vector<Progressed> marks_;
  std::optional<Gap> gap_;  // what came after it is not known yet
  Progressed passed_over_;
};

}  // namespace sluice::launcher
