// Whether the devices that the ranks took go together: one dtype of hidden states, and ranks that
// share a GPU fit into its memory.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/device/backend.h"

namespace sluice::launcher {

struct RankDevice {
  std::string host;
  std::string kind;           // BackendInfo::kind
  std::string device_id;      // BackendInfo::device_id; empty: the CPU
  std::string compute_dtype;  // name_of()
  std::uint64_t wanted = 0;   // of the device's memory; nothing where it has none of its own
  std::uint64_t free = 0;     // BackendInfo::device_free_bytes
  std::uint64_t taken = 0;    // BackendInfo::workspace_bytes: a part of both

  static auto fields(auto& self) {
    return std::tie(self.host, self.kind, self.device_id, self.compute_dtype, self.wanted,
                    self.free, self.taken);
  }
};

/// `ranks` by rank. Throws ConfigError where hidden states of one stage are not those that the next
/// computes with (a GPU's f16 and the CPU's f32), CapacityError where ranks plan more of a GPU than
/// is free, naming the ranks.
void check_devices(const std::vector<RankDevice>& ranks);

/// What a stage leaves free of a GPU's free bytes where no budget says how much it may take:
/// kernels' code, graphs and the driver's own needs come to the device while the job runs. Not
/// measured.
std::uint64_t spare_device_bytes(std::uint64_t free_bytes);

/// "ranks 0 and 1 share GPU 0000:3b:00.0 of node1", a line for each GPU that several ranks took.
std::vector<std::string> shared_devices(const std::vector<RankDevice>& ranks);

}  // namespace sluice::launcher
