#include "launcher/generate/rank_weights.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "kernels/device/error.h"

namespace sluice::launcher {

std::filesystem::path packed_directory(const RunConfig& config) {
  if (!config.packed_directory.empty()) return config.packed_directory;
  // Relative paths in it are to be ignored, says the XDG Base Directory Specification.
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "sluice";
  const char* const home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return std::filesystem::path(home) / ".cache" / "sluice";
  throw ConfigError(
      "there is no folder to keep packed weights in, as neither XDG_CACHE_HOME nor HOME is set; "
      "give one with --packed-dir DIR (io.packed_directory)");
}

RankWeights::RankWeights(const RunConfig& config, offload::Compression compression,
                         const OpenedModel& model, offload::DiskEngine& disk,
                         const std::filesystem::path& run_folder, int threads) {
  if (!model.checkpoint) {
    dense_ = offload::make_dummy_source(model.folder.config.dtype, disk, run_folder, compression);
    return;
  }
  dense_ = offload::make_checkpoint_source(*model.checkpoint, model.names, disk);
  if (!offload::needs_packing(*model.checkpoint, model.names, compression)) return;
  if (threads == 0) threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  packed_ = offload::make_packed_source(*model.checkpoint, model.names, *dense_, disk,
                                        {compression, packed_directory(config), threads});
}

void RankWeights::prepare(const std::function<void(const offload::PackingState&)>& progress) {
  if (packed_) packed_->prepare(progress);
}

}  // namespace sluice::launcher
