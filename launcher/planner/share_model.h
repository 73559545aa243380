// What a stage takes of time and memory as a linear function of its shares. The factors come from
// the real schedule and the real memory plan of small stages with pure policies, so there is no
// second set of formulas. The inner problem of FlexGen's search (paper, section 4.3) is the linear
// program over it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "launcher/planner/busy_seconds.h"
#include "launcher/planner/stage_papers.h"

namespace sluice::launcher {

enum class SharedPart : std::uint8_t { weights, cache, activations };

/// The shares of a part that the user has not decided.
offload::Shares& shares_of(offload::Policy& policy, SharedPart part);

/// All of a part moves from the device to another tier.
struct ShareShift {
  SharedPart part;
  offload::Tier to;
};

/// Of a stage in a micro-batch's passes.
struct StageFigures {
  StageBusy busy;
  offload::PerTier<double> bytes = {};

  StageFigures& add(const StageFigures& other, double times);
};

/// Stages that are first, last, both or neither differ; of one kind they differ in layers.
class ShareModel {
 public:
  /// Of stages like `stage`, with `batching` up to the numbers of GPU batches and micro-batches.
  /// `policy`: what is decided; the parts that are not are on the device.
  ShareModel(StagePapers& papers, std::int32_t stage, const offload::Policy& policy,
             const stage::Batching& batching, const PassMix& mix);

  const std::vector<ShareShift>& shifts() const { return shifts_; }
  const offload::Policy& policy() const { return policy_; }
  const std::vector<BusyRow>& rows() const { return rows_; }

  /// The whole stage without any shift.
  StageFigures base(std::int32_t layers, const stage::Batching& batching) const {
    return at(0, layers, batching);
  }
  /// What shift `index` adds.
  StageFigures shift(std::size_t index, std::int32_t layers, const stage::Batching& batching) const;

 private:
  /// [layers: fewer, more][1 GPU batch, 2 GPU batches, 2 micro-batches]
  using Measured = std::array<std::array<StageFigures, 3>, 2>;

  Measured measure(StagePapers& papers, std::int32_t stage, const offload::Policy& policy,
                   const stage::Batching& batching, const PassMix& mix) const;
  StageFigures at(std::size_t variant, std::int32_t layers, const stage::Batching& batching) const;

  offload::Policy policy_;
  std::vector<ShareShift> shifts_;
  std::vector<BusyRow> rows_;
  std::array<std::int32_t, 2> layers_ = {};
  std::vector<Measured> measured_;  // the base, then each shift
};

/// What the linear program chose.
struct ShareChoice {
  offload::Policy policy;
  double prefill_seconds = 0;  // of a pass
  double decode_seconds = 0;
};

/// Least `prefills` x prefill_seconds + `decodes` x decode_seconds that fits the room; nothing
/// where no shares do.
std::optional<ShareChoice> choose_shares(const ShareModel& model, std::int32_t layers,
                                         const stage::Batching& batching, const StageRoom& room,
                                         double prefills, double decodes);

}  // namespace sluice::launcher
