// Finds the NCCL plugin. Chosen by SLUICE_NCCL=ON in the place of nccl_unavailable.cc.
#include "comm/nccl_plugin.h"

#include "kernels/plugin.h"

namespace sluice::comm {

NcclLibrary load_nccl() {
  try {
    return load_nccl_plugin(kernels::find_plugin(kNcclPluginFile));
  } catch (const kernels::PluginProblem& problem) {
    throw NcclUnavailable(problem.what());
  }
}

}  // namespace sluice::comm
