// What the program and libsluice_nccl.so agree on. The program is not linked with NCCL, so that it
// runs without it; it loads the plugin where hidden states may go from GPU to GPU.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "comm/device_channel.h"
#include "kernels/cuda_plugin.h"
#include "kernels/device/backend.h"
#include "kernels/device/error.h"

namespace sluice::comm {

/// Raise it by 1000 with every change of DeviceChannel, of NcclEnds or of the functions below. The
/// plugin calls a Backend, too.
constexpr int kNcclAbi = 1000 + kernels::kEngineAbi;
constexpr const char* kNcclPluginFile = "libsluice_nccl.so";

/// The ends of a rank's channel. An id names the pair of a rank and the next one; null: there is no
/// such neighbour.
struct NcclEnds {
  Backend* backend = nullptr;
  int rank = 0;
  const std::string* from_previous = nullptr;
  const std::string* to_next = nullptr;
  std::chrono::milliseconds deadline{0};  // for the ranks to meet
  /// An error that another rank may have caused is thrown this much later than it is seen. If that
  /// rank died, the world has named it by then.
  std::chrono::milliseconds grace{0};
};

extern "C" {

/// kNcclAbi as it was when the plugin was compiled.
[[gnu::visibility("default")]] int sluice_nccl_abi() noexcept;
/// Makes the id of a pair, in hexadecimal digits. Throws DeviceError.
[[gnu::visibility("default")]] void sluice_nccl_make_id(std::string* id);
/// As connect_nccl(). Both ranks of a pair must call it.
[[gnu::visibility("default")]] void sluice_nccl_connect(const NcclEnds* ends,
                                                        std::unique_ptr<DeviceChannel>* channel);

}  // extern "C"

struct NcclLibrary {
  decltype(&sluice_nccl_make_id) make_id = nullptr;
  decltype(&sluice_nccl_connect) connect = nullptr;
};

/// "NCCL unavailable: <reason>".
struct NcclUnavailable : ConfigError {
  explicit NcclUnavailable(const std::string& reason)
      : ConfigError("NCCL unavailable: " + reason) {}
};

/// The plugin at `path` (with no slash in it: where the loader looks). Throws NcclUnavailable.
NcclLibrary load_nccl_plugin(const std::string& path);

/// The plugin of this program, wherever it is. Throws NcclUnavailable; in builds without it, always
/// (nccl_unavailable.cc).
NcclLibrary load_nccl();

}  // namespace sluice::comm
