// An NCCL plugin of another build, of which nothing else must be called.
#include <cstdlib>

#include "comm/nccl_plugin.h"

namespace sluice::comm {

int sluice_nccl_abi() noexcept { return kNcclAbi + 1; }
void sluice_nccl_make_id(std::string*) { std::abort(); }
void sluice_nccl_connect(const NcclEnds*, std::unique_ptr<DeviceChannel>*) { std::abort(); }

}  // namespace sluice::comm
