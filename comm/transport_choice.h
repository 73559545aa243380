// Which transport hidden states take, as a function of what the ranks told each other.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/device_channel.h"

namespace sluice::comm {

/// What a rank computes on.
struct RankPlace {
  std::string host;
  std::string kind;       // BackendInfo::kind
  std::string device_id;  // BackendInfo::device_id
};

/// Why hidden states cannot go from device to device, or, where nobody asked for it by name, had
/// better not: "rank 1 computes on the CPU". Empty: they can.
std::string obstacle_to_nccl(Transport wanted, const std::vector<RankPlace>& ranks);

/// The choice, where `obstacle` is what speaks against NCCL. Throws ConfigError.
TransportChoice decide(Transport wanted, const std::vector<RankPlace>& ranks,
                       const std::string& obstacle);

/// What NCCL should find in the environment of `rank`, where the user has not set it.
std::vector<std::pair<std::string, std::string>> nccl_environment(
    int rank, const std::vector<RankPlace>& ranks);

}  // namespace sluice::comm
