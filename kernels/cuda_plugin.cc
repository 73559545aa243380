// Finds the CUDA plugin. Chosen by SLUICE_CUDA=ON in the place of cuda_unavailable.cc.
#include "kernels/cuda_plugin.h"

#include <fmt/core.h>

#include <filesystem>
#include <system_error>

namespace sluice::kernels {

namespace {

/// Whether the loader should try `file`. What cannot be looked at is tried, so that the reason is
/// told rather than the plugin passed over.
bool may_exist(const std::filesystem::path& file) {
  std::error_code error;
  return std::filesystem::status(file, error).type() != std::filesystem::file_type::not_found;
}

}  // namespace

bool seeks_cuda() { return true; }

Engine make_cuda_engine(const EngineOptions& options) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    throw CudaUnavailable(
        fmt::format("the folder of the program is not known, because /proc/self/exe cannot "
                    "be read ({})",
                    error.message()));
  }
  // The first that is there is the plugin, also where it does not work: another one further on, of
  // another build, would only hide what is wrong.
  const std::filesystem::path folder = program.parent_path();
  for (const auto& file : {folder / kPluginFile, folder / "../lib/sluice" / kPluginFile}) {
    if (may_exist(file)) return load_engine_plugin(file.string(), options);
  }
  return load_engine_plugin(kPluginFile, options);
}

}  // namespace sluice::kernels
