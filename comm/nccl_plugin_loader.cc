// Loads one NCCL plugin. Compiled in every build; only nccl_plugin.cc, of builds with SLUICE_NCCL,
// gives it a path.
#include "comm/nccl_plugin.h"
#include "kernels/plugin.h"

namespace sluice::comm {

NcclLibrary load_nccl_plugin(const std::string& path) {
  constexpr kernels::PluginContract kContract = {kNcclPluginFile, "sluice_nccl_abi", kNcclAbi,
                                                 "NCCL"};
  try {
    kernels::Plugin plugin(path, kContract);
    const NcclLibrary library{
        plugin.function<decltype(&sluice_nccl_make_id)>("sluice_nccl_make_id"),
        plugin.function<decltype(&sluice_nccl_connect)>("sluice_nccl_connect")};
    plugin.keep();
    return library;
  } catch (const kernels::PluginProblem& problem) {
    throw NcclUnavailable(problem.what());
  }
}

}  // namespace sluice::comm
