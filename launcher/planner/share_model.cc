#include "launcher/planner/share_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "launcher/planner/linear_program.h"

namespace sluice::launcher {

namespace {

using offload::Tier;

/// Layers of the two stages that are measured: enough for two layers beside each other in the ring
/// of weights. Layers with windows repeat within a dozen, and so do those with experts, unless only
/// the first ones have none: then the layers behind these count.
std::array<std::int32_t, 2> measured_layers(const stage::DecoderConfig& model) {
  const std::vector<char>& experts = model.mixture.layers;
  const auto first = std::ranges::find(experts, 1);
  const bool alike = std::ranges::find(first, experts.end(), 0) == experts.end();
  if (model.attention.windows.empty() && alike) {
    const auto plain = static_cast<std::int32_t>(first - experts.begin());
    const std::int32_t more = std::min(model.layers, plain + 3);
    return {std::max(more - 1, 1), more};
  }
  const std::int32_t more = std::min(model.layers, 24);
  return {(more + 1) / 2, more};
}

void put(offload::Shares& shares, Tier tier) {
  shares = {tier == Tier::device ? 100.0 : 0.0, tier == Tier::host ? 100.0 : 0.0,
            tier == Tier::disk ? 100.0 : 0.0};
}

/// Shares of hundreds of bytes are no use to anybody: a tenth of a percent, the device's the
/// lesser.
void round_shares(offload::Shares& shares) {
  const auto up = [](double share) {
    return std::max(0.0, std::min(std::ceil(share * 10 - 1e-6) / 10, 100.0)) + 0.0;  // no -0
  };
  shares.disk = up(shares.disk);
  shares.host = std::min(up(shares.host), 100 - shares.disk) + 0.0;
  shares.device = std::max(0.0, 100 - shares.host - shares.disk) + 0.0;
}

}  // namespace

offload::Shares& shares_of(offload::Policy& policy, SharedPart part) {
  return part == SharedPart::weights ? policy.weights
         : part == SharedPart::cache ? policy.cache
                                     : policy.activations;
}

StageFigures& StageFigures::add(const StageFigures& other, double times) {
  busy.prefill.add(other.busy.prefill, times);
  busy.decode.add(other.busy.decode, times);
  for (std::size_t tier = 0; tier < bytes.size(); ++tier) bytes[tier] += times * other.bytes[tier];
  return *this;
}

ShareModel::ShareModel(StagePapers& papers, std::int32_t stage, const offload::Policy& policy,
                       const stage::Batching& batching, const PassMix& mix)
    : policy_(policy), layers_(measured_layers(papers.request().decoder())) {
  const Decided& decided = papers.request().decided;
  for (const auto& [part, is_decided] :
       {std::pair{SharedPart::weights, decided.weights},
        std::pair{SharedPart::cache, decided.cache},
        std::pair{SharedPart::activations, decided.activations || policy.mlp_once}}) {
    if (is_decided) continue;
    put(shares_of(policy_, part), Tier::device);
    shifts_.push_back({part, Tier::host});
    if (part != SharedPart::activations) shifts_.push_back({part, Tier::disk});
  }
  measured_.push_back(measure(papers, stage, policy_, batching, mix));
  for (const ShareShift& shift : shifts_) {
    offload::Policy shifted = policy_;
    put(shares_of(shifted, shift.part), shift.to);
    measured_.push_back(measure(papers, stage, shifted, batching, mix));
  }
  stage::StageConfig config = papers.request().stages[static_cast<std::size_t>(stage)];
  config.policy = policy_;
  config.layers = layers_[0];
  rows_ = busy_rows(papers.cost(papers.layout(stage, config, batching)), papers.on_host());
}

ShareModel::Measured ShareModel::measure(StagePapers& papers, std::int32_t stage,
                                         const offload::Policy& policy,
                                         const stage::Batching& batching,
                                         const PassMix& mix) const {
  Measured measured;
  for (std::size_t n = 0; n < layers_.size(); ++n) {
    stage::StageConfig config = papers.request().stages[static_cast<std::size_t>(stage)];
    config.policy = policy;
    config.first_layer = 0;
    config.layers = layers_[n];
    for (std::size_t variant = 0; variant < measured[n].size(); ++variant) {
      stage::Batching few = batching;
      few.num_gpu_batches = variant == 1 ? 2 : 1;
      few.micro_batches = variant == 2 ? 2 : 1;
      const stage::StageLayout layout = papers.layout(stage, config, few);
      const Placement& placement = papers.placement(layout);
      StageFigures& figures = measured[n][variant];
      if (variant < 2) figures.busy = stage_busy(layout, placement, papers.cost(layout), mix);
      const offload::MemoryPlan plan = stage::plan_memory(layout, placement);
      for (std::size_t tier = 0; tier < figures.bytes.size(); ++tier) {
        figures.bytes[tier] = static_cast<double>(plan.total(static_cast<Tier>(tier)));
      }
    }
  }
  return measured;
}

StageFigures ShareModel::at(std::size_t variant, std::int32_t layers,
                            const stage::Batching& batching) const {
  const Measured& measured = measured_[variant];
  const double steps =
      layers_[1] > layers_[0] ? double(layers - layers_[0]) / (layers_[1] - layers_[0]) : 0;
  const auto of_layers = [&](std::size_t which) {
    StageFigures figures;
    return figures.add(measured[0][which], 1 - steps).add(measured[1][which], steps);
  };
  const StageFigures one = of_layers(0);
  StageFigures figures = one;
  const double more_batches = batching.num_gpu_batches - 1;
  figures.add(of_layers(1), more_batches).add(one, -more_batches);
  // Micro-batches differ in memory only.
  const StageFigures two = of_layers(2);
  const double more = double(batching.micro_batches - 1) * batching.num_gpu_batches;
  for (std::size_t tier = 0; tier < figures.bytes.size(); ++tier) {
    figures.bytes[tier] += more * (two.bytes[tier] - one.bytes[tier]);
  }
  return figures;
}

StageFigures ShareModel::shift(std::size_t index, std::int32_t layers,
                               const stage::Batching& batching) const {
  StageFigures figures = at(index + 1, layers, batching);
  return figures.add(at(0, layers, batching), -1);
}

namespace {

double sum(const BusySeconds& busy) { return std::accumulate(busy.of.begin(), busy.of.end(), 0.0); }

/// The linear program of one stage.
class ShareProgram {
 public:
  ShareProgram(const ShareModel& model, std::int32_t layers, const stage::Batching& batching)
      : model_(model), base_(model.base(layers, batching)) {
    for (std::size_t i = 0; i < model.shifts().size(); ++i) {
      shifts_.push_back(model.shift(i, layers, batching));
    }
  }

  std::optional<ShareChoice> solve(const StageRoom& room, double prefills, double decodes) {
    for (const StageFigures& shift : shifts_) {
      // Of equally fast shares those that keep the resources least busy.
      const double busy = prefills * sum(shift.busy.prefill) + decodes * sum(shift.busy.decode);
      program_.add_variable(1e-3 * std::max(busy, 0.0), 1);
    }
    prefill_ = program_.add_variable(std::max(prefills, 1e-6));
    decode_ = program_.add_variable(std::max(decodes, 1e-6));
    limit_parts();
    for (const BusyRow& row : model_.rows()) {
      limit_seconds(row, &StageBusy::prefill, prefill_);
      limit_seconds(row, &StageBusy::decode, decode_);
    }
    for (std::size_t tier = 0; tier < room.tier.size(); ++tier) {
      limit_bytes({static_cast<Tier>(tier)}, room.tier[tier]);
    }
    if (room.shared) limit_bytes({Tier::device, Tier::host}, room.host_memory);
    if (impossible_) return std::nullopt;
    const auto values = program_.solve();
    if (!values) return std::nullopt;
    return choice(*values);
  }

 private:
  void limit_parts() {
    for (const SharedPart part :
         {SharedPart::weights, SharedPart::cache, SharedPart::activations}) {
      std::vector<LinearProgram::Term> terms;
      for (std::size_t i = 0; i < shifts_.size(); ++i) {
        if (model_.shifts()[i].part == part) terms.push_back({i, 1});
      }
      if (!terms.empty()) program_.add_limit(std::move(terms), 0, 1);
    }
  }

  void limit_seconds(const BusyRow& row, BusySeconds StageBusy::*kind, std::size_t seconds) {
    std::vector<LinearProgram::Term> terms = {{seconds, 1}};
    bool counts = row.counts(base_.busy.*kind);
    for (std::size_t i = 0; i < shifts_.size(); ++i) {
      const double more = row.of(shifts_[i].busy.*kind);
      if (more != 0) terms.push_back({i, -more});
      counts = counts || row.counts(shifts_[i].busy.*kind);
    }
    if (counts) program_.add_limit(std::move(terms), row.of(base_.busy.*kind), kUnbounded);
  }

  void limit_bytes(std::vector<Tier> tiers, std::uint64_t room) {
    std::vector<LinearProgram::Term> terms;
    double taken = 0;
    for (const Tier tier : tiers) taken += base_.bytes[static_cast<std::size_t>(tier)];
    for (std::size_t i = 0; i < shifts_.size(); ++i) {
      double more = 0;
      for (const Tier tier : tiers) more += shifts_[i].bytes[static_cast<std::size_t>(tier)];
      if (more != 0) terms.push_back({i, more});
    }
    const double left = static_cast<double>(room) - taken;
    if (left < 0 && terms.empty()) impossible_ = true;
    if (!terms.empty()) program_.add_limit(std::move(terms), -kUnbounded, left);
  }

  ShareChoice choice(const std::vector<double>& values) const {
    ShareChoice choice{model_.policy(), values[prefill_], values[decode_]};
    for (std::size_t i = 0; i < shifts_.size(); ++i) {
      const ShareShift& shift = model_.shifts()[i];
      const double percent = 100 * std::clamp(values[i], 0.0, 1.0);
      offload::Shares& shares = shares_of(choice.policy, shift.part);
      (shift.to == Tier::host ? shares.host : shares.disk) += percent;
      shares.device -= percent;
    }
    for (std::size_t i = 0; i < shifts_.size(); ++i) {
      round_shares(shares_of(choice.policy, model_.shifts()[i].part));
    }
    return choice;
  }

  const ShareModel& model_;
  StageFigures base_;
  std::vector<StageFigures> shifts_;
  LinearProgram program_;
  std::size_t prefill_ = 0;
  std::size_t decode_ = 0;
  bool impossible_ = false;
};

}  // namespace

std::optional<ShareChoice> choose_shares(const ShareModel& model, std::int32_t layers,
                                         const stage::Batching& batching, const StageRoom& room,
                                         double prefills, double decodes) {
  return ShareProgram(model, layers, batching).solve(room, prefills, decodes);
}

}  // namespace sluice::launcher
