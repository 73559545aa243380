// From the shares of a linear program to shares that the stage's own memory plan has room for.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "launcher/planner/job_seconds.h"
#include "launcher/planner/share_model.h"

namespace sluice::launcher {

class PolicyFit {
 public:
  /// All references must outlive it. `layout` has the policy to begin with.
  PolicyFit(StagePapers& papers, const ShareModel& model, const stage::StageLayout& layout,
            const StageRoom& room, const PassCounts& counts);

  /// Moves shares down until they fit, each time where that costs least, then up again as far as
  /// there is room. False: nothing is left to move.
  bool run();
  const offload::Policy& policy() const { return layout_.config.policy; }
  /// Of that policy.
  const offload::MemoryPlan& plan() const { return plan_; }

 private:
  struct Move {
    SharedPart part;
    offload::Tier from;
    offload::Tier to;
  };

  /// Makes the plan of the present policy.
  bool fits();
  StageFigures figures(const offload::Policy& policy) const;
  double seconds(const offload::Policy& policy) const;
  /// What moving everything of the part from one tier to another would add to a tier's bytes.
  double bytes_added(const Move& move, offload::Tier tier) const;
  bool relieve(offload::Tier tier, std::uint64_t bytes);
  void use_room();
  void move(const Move& move, double percent);

  StagePapers& papers_;
  const ShareModel& model_;
  stage::StageLayout layout_;
  const StageRoom& room_;
  PassCounts counts_;
  StageFigures base_;
  std::vector<StageFigures> shifts_;
  offload::MemoryPlan plan_;
};

}  // namespace sluice::launcher
