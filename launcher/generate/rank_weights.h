// Where a rank's weights come from: a checkpoint or made-up values, as they are or quantised.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "launcher/config/run_config.h"
#include "launcher/model/opened_model.h"
#include "offload/weights/packed_source.h"

namespace sluice::launcher {

/// packed_directory, or where that is empty the user's cache: $XDG_CACHE_HOME/sluice, else
/// ~/.cache/sluice. Throws ConfigError where there is none of them.
std::filesystem::path packed_directory(const RunConfig& config);

class RankWeights {
 public:
  /// Made-up weights go into `run_folder`, as far as they lie on disk. `threads` quantise; 0: one
  /// for each core. `model` and `disk` must outlive it.
  RankWeights(const RunConfig& config, offload::Compression compression, const OpenedModel& model,
              offload::DiskEngine& disk, const std::filesystem::path& run_folder, int threads);

  offload::WeightSource& source() { return packed_ ? *packed_ : *dense_; }

  /// After planning, before loading: PackedSource::prepare(), where weights are packed.
  void prepare(const std::function<void(const offload::PackingState&)>& progress);

 private:
  std::unique_ptr<offload::WeightSource> dense_;
  std::unique_ptr<offload::PackedSource> packed_;  // none: dense_ has them as they are wanted
};

}  // namespace sluice::launcher
