// An NCCL plugin that connects nothing.
#include "comm/nccl_plugin.h"

namespace sluice::comm {

int sluice_nccl_abi() noexcept { return kNcclAbi; }
void sluice_nccl_make_id(std::string*) {}

}  // namespace sluice::comm
