// In the place of nccl_plugin.cc, where the build has no NCCL.
#include "comm/nccl_plugin.h"

namespace sluice::comm {

NcclLibrary load_nccl() {
  throw NcclUnavailable("this program was built without NCCL (SLUICE_NCCL=OFF)");
}

}  // namespace sluice::comm
