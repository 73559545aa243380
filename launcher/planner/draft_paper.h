// The small model that guesses (--draft-model), on paper: what it takes of rank 0's memory.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "launcher/config/run_config.h"
#include "launcher/model/opened_model.h"
#include "launcher/planner/machine.h"
#include "offload/tier.h"
#include "stage/stage_config.h"

namespace sluice::launcher {

class DraftPaper {
 public:
  /// Opens the model of config.draft. `machine`: that of rank 0's kind of device. Throws
  /// InputError.
  DraftPaper(const RunConfig& config, const Machine& machine);

  /// As generate's DraftRank::bytes() beside a job of this batching, with max_sequence_tokens, over
  /// so many stages.
  offload::PerTier<std::uint64_t> bytes(const stage::Batching& batching, std::int32_t stages);

 private:
  RunConfig config_;  // of a run of its own
  OpenedModel opened_;
  Machine machine_;
  /// By micro-batches, GPU batches, their sizes and tokens, the longest sequence, most guesses.
  using Key = std::array<std::int32_t, 6>;
  std::map<Key, offload::PerTier<std::uint64_t>> known_;
};

}  // namespace sluice::launcher
