// What a plan is asked for: a model, a machine, a job, and what the user has decided already.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "launcher/model/opened_model.h"
#include "launcher/planner/draft_paper.h"
#include "launcher/planner/machine.h"
#include "launcher/planner/simulator.h"
#include "stage/stage_config.h"

namespace sluice::launcher {

/// The sequences that a plan is made for.
struct PlannedJob {
  static constexpr std::int64_t kMostRequests = 100'000;

  std::vector<SimulatedRequest> requests;  // at least one; the first of all, or some of them
  std::int64_t rows = 0;  // of the job; 0: as many as a plan has slots, each like the first one
  /// Batching::max_sequence_tokens, usual_sequence_tokens and max_rule_words of the run.
  std::int32_t longest_sequence = 1;
  std::int32_t usual_sequence = 0;
  std::int32_t most_rule_words = 0;
  bool grammars = false;  // Batching::grammars of the run
  bool features = false;  // rows may ask for embeddings: Batching::features

  /// Made-up prompts; `count` 0: one for every slot.
  static PlannedJob alike(std::int32_t prompt_tokens, std::int32_t new_tokens, std::int64_t count);

  double mean_prompt() const;
  double mean_answer() const;
};

/// What the user has said: it is kept, and not searched.
struct Decided {
  bool weights = false;
  bool cache = false;
  bool activations = false;
  bool cpu_cache_compute = false;
  bool gpu_batch_size = false;
  bool num_gpu_batches = false;
  bool micro_batches = false;
  bool max_tokens = false;
  bool layers = false;  // of each stage
};

struct PlanRequest {
  const OpenedModel* model = nullptr;
  bool made_up_weights = false;  // WeightsFrom::dummy
  const Machine* machine = nullptr;
  /// One for each stage: budgets, limits, and the policy as far as it is decided.
  std::vector<stage::StageConfig> stages;
  stage::Batching batching;  // likewise
  Decided decided;
  /// What weights and cache may be kept as, at least one of each; the first is what was asked for.
  std::vector<offload::Compression> compressions = {offload::Compression::none};
  std::vector<std::optional<DType>> cache_dtypes = {std::nullopt};
  /// Of a model that guesses in rank 0; null: there is none.
  std::shared_ptr<DraftPaper> draft;
  const stage::DecoderConfig& decoder() const { return model->folder.config; }

  double latency_limit = 0;  // seconds that a sequence may take; 0: any
  PlannedJob job;
};

}  // namespace sluice::launcher
