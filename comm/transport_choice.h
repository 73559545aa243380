// Which transport hidden states take: a pure function of what the ranks told each other, so that
// all ranks choose alike.
#pragma once

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "comm/device_channel.h"

namespace sluice::comm {

/// "0000:3b:00.0" of a BackendInfo::device_id: of the GPU, also where it has several instances.
inline std::string pci_id_of(const std::string& device_id) {
  return device_id.substr(0, device_id.find(' '));
}

/// What a rank computes on.
struct RankPlace {
  std::string host;
  std::string kind;       // BackendInfo::kind
  std::string device_id;  // BackendInfo::device_id
  static auto fields(auto& self) { return std::tie(self.host, self.kind, self.device_id); }
};

/// Why hidden states do not go from device to device: "rank 1 computes on the CPU". Two ranks of
/// one GPU are an obstacle only where NCCL was not asked for by name. Empty: there is none.
std::string obstacle_to_nccl(Transport wanted, const std::vector<RankPlace>& ranks);

/// The choice; `obstacle` speaks against NCCL. Throws ConfigError.
TransportChoice decide(Transport wanted, const std::vector<RankPlace>& ranks,
                       const std::string& obstacle);

/// Environment variables that NCCL should find on `rank`, where the user has not set them.
std::vector<std::pair<std::string, std::string>> nccl_environment(
    int rank, const std::vector<RankPlace>& ranks);

}  // namespace sluice::comm
