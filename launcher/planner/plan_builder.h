// From a choice of batching to a whole plan: the shares of every stage by the linear program, the
// layers by the exact split, and then the stage's own memory plan until it fits.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/planner/job_seconds.h"
#include "launcher/planner/plan.h"
#include "launcher/planner/share_model.h"

namespace sluice::launcher {

/// What the outer search decides.
struct PlanChoice {
  stage::Batching batching;  // micro_batches is said
  bool cpu_cache_compute = false;
  offload::Compression compress_weight = offload::Compression::none;
  std::optional<DType> cache_dtype;

  bool operator<(const PlanChoice& other) const;
};

PlanChoice choice_of(const Plan& plan);

/// A choice with linear estimates, not yet fitted to the byte.
struct ScoredChoice {
  PlanChoice choice;
  JobSeconds seconds;
  double tokens_per_second = 0;
};

class PlanBuilder {
 public:
  explicit PlanBuilder(const PlanRequest& request);

  StagePapers& papers() { return papers_; }
  const PassMix& mix() const { return mix_; }

  /// With layers split evenly, or as use_layers_of() says. Empty: no shares fit.
  std::optional<ScoredChoice> score(const PlanChoice& choice);
  /// From now on scores count with the exact split of this choice. No-op where it has none.
  void use_layers_of(const PlanChoice& choice);
  /// An even split of layers says little of such stages.
  bool has_unlike_devices() const;
  /// A plan that fits to the byte, with estimates of the real schedule. Empty: none does.
  std::optional<Plan> build(const PlanChoice& choice);
  /// The same layers with other policies. Empty: a stage does not fit.
  std::optional<Plan> build(const PlanChoice& choice,
                            const std::vector<stage::StageConfig>& stages);

  double generated_tokens(const stage::Batching& batching) const;
  std::int64_t sequences(const stage::Batching& batching) const;
  std::vector<std::int32_t> even_layers() const;
  /// What is decided, and what `choice` says.
  offload::Policy policy_of(std::int32_t stage, const PlanChoice& choice) const;

 private:
  struct StageClass {
    std::size_t kind = 0;  // of share models
    std::size_t room = 0;
  };

  ShareModel& model(std::int32_t stage, const PlanChoice& choice);
  std::optional<ShareChoice> shares(std::int32_t stage, std::int32_t layers,
                                    const PlanChoice& choice);
  std::optional<std::vector<std::int32_t>> split(const PlanChoice& choice);
  PlannedStage paper(std::int32_t stage, const stage::StageConfig& config,
                     const PlanChoice& choice);

  const PlanRequest& request_;
  StagePapers papers_;
  PassMix mix_;
  std::vector<StageClass> classes_;          // by stage
  std::vector<std::int32_t> scored_layers_;  // by stage
  std::map<std::string, ShareModel> models_;
};

}  // namespace sluice::launcher
