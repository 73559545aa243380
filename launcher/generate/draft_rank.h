// The small model that guesses (--draft-model), beside the stage of rank 0: a run of one rank of
// its own, in device memory, on a thread of this process.
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "comm/world.h"
#include "launcher/config/run_config.h"
#include "launcher/generate/rank.h"
#include "launcher/model/opened_model.h"
#include "stage/draft_model.h"
#include "stage/drafter.h"

namespace sluice::launcher {

/// Throws ConfigError unless both models have the same tokens by the same ids.
void check_vocabularies(const ModelFolder& target, const ModelFolder& draft);

class DraftRank : public stage::Drafter {
 public:
  /// Opens and plans the model of config.draft. `target`: the model that answers; `batching`: of
  /// its job, over so many `stages`; `device`: rank 0's. Throws InputError, ConfigError.
  DraftRank(const RunConfig& config, const ModelFolder& target, const stage::Batching& batching,
            std::int32_t stages, const std::string& device, int threads);
  ~DraftRank() override;

  /// What it takes of each tier: planned, and used from load() on.
  offload::PerTier<std::uint64_t> bytes() const;
  std::uint64_t load_bytes() const { return rank_->load_bytes(); }
  void load(const LoadWatch& watch) { rank_->load(watch); }

  /// Its stage runs from here ...
  void start();
  /// ... to here.
  void stop() noexcept;

  /// Throws what its stage threw.
  void draft(std::span<stage::DraftRow> rows) override;
  double seconds() const override { return model_ ? model_->seconds() : 0; }

 private:
  RunConfig config_;
  OpenedModel opened_;
  std::vector<std::unique_ptr<comm::World>> world_;  // of one rank
  std::int32_t most_guesses_;
  std::optional<Rank> rank_;
  std::optional<stage::DraftModel> model_;
  std::exception_ptr cause_;  // of the thread; read when it has ended
  std::thread thread_;
};

}  // namespace sluice::launcher
