#include "launcher/planner/policy_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

using offload::Tier;

constexpr double kStep = 0.1;  // percent
constexpr int kMostMoves = 200;

double& share(offload::Shares& shares, Tier tier) {
  return tier == Tier::device ? shares.device : tier == Tier::host ? shares.host : shares.disk;
}

double in_steps(double percent) {
  return std::clamp(std::round(percent / kStep) / (1 / kStep), 0.0, 100.0) + 0.0;
}

}  // namespace

PolicyFit::PolicyFit(StagePapers& papers, const ShareModel& model, const stage::StageLayout& layout,
                     const StageRoom& room, const PassCounts& counts)
    : papers_(papers),
      model_(model),
      layout_(layout),
      room_(room),
      counts_(counts),
      base_(model.base(layout.config.layers, layout.batching)) {
  for (std::size_t i = 0; i < model.shifts().size(); ++i) {
    shifts_.push_back(model.shift(i, layout.config.layers, layout.batching));
  }
}

bool PolicyFit::fits() {
  layout_.cache_pages = {};
  plan_ = stage::plan_memory(layout_, papers_.placement(layout_));
  return StagePapers::fits(plan_, room_);
}

StageFigures PolicyFit::figures(const offload::Policy& policy) const {
  StageFigures figures = base_;
  offload::Policy copy = policy;
  for (std::size_t i = 0; i < shifts_.size(); ++i) {
    const ShareShift& shift = model_.shifts()[i];
    figures.add(shifts_[i], share(shares_of(copy, shift.part), shift.to) / 100);
  }
  return figures;
}

double PolicyFit::seconds(const offload::Policy& policy) const {
  const StageFigures of = figures(policy);
  return counts_.prefills * pass_seconds(of.busy.prefill, model_.rows()).seconds +
         counts_.decodes * pass_seconds(of.busy.decode, model_.rows()).seconds;
}

double PolicyFit::bytes_added(const Move& move, Tier tier) const {
  double bytes = 0;
  for (std::size_t i = 0; i < shifts_.size(); ++i) {
    const ShareShift& shift = model_.shifts()[i];
    if (shift.part != move.part) continue;
    const double added = shifts_[i].bytes[static_cast<std::size_t>(tier)];
    if (shift.to == move.to) bytes += added;
    if (shift.to == move.from) bytes -= added;
  }
  return bytes;
}

void PolicyFit::move(const Move& move, double percent) {
  offload::Shares& shares = shares_of(layout_.config.policy, move.part);
  double& from = share(shares, move.from);
  from = in_steps(from - std::min(percent, from));
  // The three add up to 100, without what sums of tenths leave behind.
  double rest = 100;
  for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
    if (tier != move.to) rest -= share(shares, tier);
  }
  share(shares, move.to) = in_steps(rest);
}

bool PolicyFit::relieve(Tier tier, std::uint64_t bytes) {
  std::optional<Move> best;
  double best_percent = 0;
  double least = std::numeric_limits<double>::infinity();
  const offload::Policy before = layout_.config.policy;
  for (const ShareShift& shift : model_.shifts()) {
    for (const Tier from : {Tier::device, Tier::host}) {
      const Move candidate{shift.part, from, shift.to};
      offload::Policy policy = before;
      const double there = share(shares_of(policy, shift.part), from);
      if (shift.to <= from || there <= 0) continue;
      double freed = -bytes_added(candidate, tier);
      // What the tiers of a CPU stage hold comes out of one memory.
      if (room_.shared && tier == Tier::host) {
        freed = -bytes_added(candidate, Tier::device) - bytes_added(candidate, Tier::host);
      }
      if (freed <= 0) continue;
      const double wanted = 100 * static_cast<double>(bytes) / freed;
      const double percent = std::min(there, std::max(kStep, std::ceil(wanted / kStep) * kStep));
      move(candidate, percent);
      // A move that frees a part only is judged by what it frees.
      const double cost = (seconds(layout_.config.policy) - seconds(before)) /
                          std::min(1.0, percent / std::max(wanted, kStep));
      layout_.config.policy = before;
      if (cost >= least) continue;
      least = cost;
      best = candidate;
      best_percent = percent;
    }
  }
  if (best) move(*best, best_percent);
  return best.has_value();
}

void PolicyFit::use_room() {
  for (const ShareShift& shift : model_.shifts()) {
    for (const Tier to : {Tier::device, Tier::host}) {
      if (to >= shift.to) continue;
      const Move up{shift.part, shift.to, to};
      offload::Policy before = layout_.config.policy;
      double percent = share(shares_of(before, shift.part), shift.to);
      for (int tries = 0; tries < 6 && percent >= kStep; ++tries, percent /= 3) {
        before = layout_.config.policy;
        move(up, std::floor(percent / kStep) * kStep);
        if (seconds(layout_.config.policy) <= seconds(before) * (1 + 1e-9) && fits()) {
          percent = share(shares_of(layout_.config.policy, shift.part), shift.to) * 3;
          continue;
        }
        layout_.config.policy = before;
      }
    }
  }
}

bool PolicyFit::run() {
  for (int moves = 0; moves < kMostMoves; ++moves) {
    if (fits()) {
      use_room();
      return fits();
    }
    const auto missing = StagePapers::missing(plan_, room_);
    bool moved = false;
    for (const Tier tier : {Tier::device, Tier::host, Tier::disk}) {
      const std::uint64_t bytes = missing[static_cast<std::size_t>(tier)];
      if (bytes > 0) {
        moved = relieve(tier, bytes);
        break;
      }
    }
    if (!moved) return false;
  }
  return false;
}

}  // namespace sluice::launcher
