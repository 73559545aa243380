#include "launcher/planner/steady_state.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

namespace sluice::launcher {

namespace {

/// Everything that is counted in a phase, in one order.
template <typename Phase, typename Visit>
void visit_counts(Phase& phase, const Visit& visit) {
  std::size_t place = 0;
  visit(place++, phase.wall_seconds);
  visit(place++, phase.passes);
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    visit(place++, phase.totals.seconds[a]);
    visit(place++, phase.totals.bytes[a]);
    visit(place++, phase.totals.exposed[a]);
  }
  visit(place++, phase.work.flop);
  visit(place++, phase.work.weight_bytes);
  visit(place++, phase.work.kv_bytes);
  visit(place++, phase.work.host_flop);
  visit(place++, phase.work.host_kv_bytes);
}

}  // namespace

CountedPhase counted(const stage::PhaseReport& phase) {
  CountedPhase counts = {};
  visit_counts(phase,
               [&](std::size_t place, auto value) { counts[place] = static_cast<double>(value); });
  return counts;
}

void add(stage::PhaseReport& phase, const CountedPhase& more) {
  visit_counts(phase, [&](std::size_t place, auto& value) {
    using Value = std::remove_reference_t<decltype(value)>;
    if constexpr (std::is_integral_v<Value>) {
      value += static_cast<Value>(std::llround(more[place]));
    } else {
      value += more[place];
    }
  });
}

void add(Progressed& sum, const Progressed& more, double factor) {
  sum.seconds += factor * more.seconds;
  sum.phases.resize(std::max(sum.phases.size(), more.phases.size()), CountedPhase{});
  for (std::size_t p = 0; p < more.phases.size(); ++p) {
    for (std::size_t i = 0; i < kPhaseCounts; ++i) {
      sum.phases[p][i] += factor * more.phases[p][i];
    }
  }
}

bool SteadyState::landed(std::size_t under_way) { return ++landings_ % under_way == 0; }

std::int32_t SteadyState::round(Progressed now, std::int32_t left) {
  marks_.push_back(std::move(now));
  const std::int32_t measured = rounds_to_measure();
  if (measured == 0) return 0;
  Progressed one;
  add(one, marks_.back(), 1.0 / measured);
  add(one, marks_[marks_.size() - 1 - static_cast<std::size_t>(measured)], -1.0 / measured);
  if (gap_) {
    add(passed_over_, gap_->before, 0.5 * gap_->rounds);
    add(passed_over_, one, 0.5 * gap_->rounds);
    gap_.reset();
  }
  // Enough must be left to see how long a round takes then, and what is gained must be worth it.
  const std::int32_t rounds = std::min(left / 3, left - window_ - 4);
  if (rounds <= window_ + 2) return 0;
  gap_ = Gap{rounds, std::move(one)};
  marks_.clear();
  landings_ = 0;
  return rounds;
}

/// The first mark ends the round in which what went before fades away. Then a round must be as long
/// as the one before, or several are measured that take turns.
std::int32_t SteadyState::rounds_to_measure() const {
  const std::size_t rounds = marks_.size() - 1;
  if (window_ > 1) return rounds >= static_cast<std::size_t>(window_) ? window_ : 0;
  if (rounds < 2) return 0;
  const auto seconds = [this](std::size_t back) {
    return marks_[marks_.size() - back].seconds - marks_[marks_.size() - 1 - back].seconds;
  };
  if (std::abs(seconds(1) - seconds(2)) <= 0.01 * seconds(1)) return 1;
  return rounds >= kMostRounds ? static_cast<std::int32_t>(kMostRounds / 2) : 0;
}

void SteadyState::disturbed() {
  landings_ = 0;
  marks_.clear();
  finish();
}

void SteadyState::finish() {
  if (gap_) add(passed_over_, gap_->before, gap_->rounds);
  gap_.reset();
}

}  // namespace sluice::launcher
