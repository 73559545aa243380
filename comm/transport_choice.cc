#include "comm/transport_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "comm/gather.h"
#include "comm/nccl_plugin.h"

namespace sluice::comm {

namespace {

constexpr const char* kCuda = "cuda";

/// NCCL tells GPUs apart by PCI id: to it two instances of a GPU are one.
bool same_gpu(const RankPlace& one, const RankPlace& other) {
  return one.kind == kCuda && other.kind == kCuda && one.host == other.host &&
         pci_id_of(one.device_id) == pci_id_of(other.device_id);
}

/// The first two ranks that share a GPU.
struct Sharers {
  std::size_t first = 0;
  std::size_t second = 0;  // 0: there are none
};
Sharers sharers(const std::vector<RankPlace>& ranks) {
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    for (std::size_t j = i + 1; j < ranks.size(); ++j) {
      if (same_gpu(ranks[i], ranks[j])) return {i, j};
    }
  }
  return {};
}

}  // namespace

std::string obstacle_to_nccl(Transport wanted, const std::vector<RankPlace>& ranks) {
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (ranks[rank].kind != kCuda) return fmt::format("rank {} computes on the CPU", rank);
  }
  if (wanted == Transport::nccl) return {};  // two of a GPU pass for hosts: slow, but they work
  const auto [first, second] = sharers(ranks);
  if (second == 0) return {};
  return fmt::format("ranks {} and {} share GPU {}", first, second,
                     pci_id_of(ranks[first].device_id));
}

TransportChoice decide(Transport wanted, const std::vector<RankPlace>& ranks,
                       const std::string& obstacle) {
  if (ranks.size() < 2) return {};
  const bool has_gpu = std::any_of(ranks.begin(), ranks.end(),
                                   [](const RankPlace& rank) { return rank.kind == kCuda; });
  const std::string mpi = has_gpu ? "host-staged MPI" : "MPI";
  if (wanted == Transport::mpi) return {false, mpi + " (asked for)"};
  if (obstacle.empty()) return {true, "nccl"};
  if (wanted == Transport::nccl) {
    throw ConfigError(fmt::format(
        "comm.transport: nccl cannot be used: {}; use --transport mpi, or auto", obstacle));
  }
  return {false, fmt::format("{} ({})", mpi, obstacle)};
}

std::vector<std::pair<std::string, std::string>> nccl_environment(
    int rank, const std::vector<RankPlace>& ranks) {
  const RankPlace& own = ranks[static_cast<std::size_t>(rank)];
  // RAS, by which NCCL lets others ask after its ranks, listens on a port of every host.
  std::vector<std::pair<std::string, std::string>> values = {{"NCCL_RAS_ENABLE", "0"}};
  const bool one_host = std::all_of(ranks.begin(), ranks.end(),
                                    [&](const RankPlace& one) { return one.host == own.host; });
  // Else the ranks meet on the first interface that leads out of the host.
  if (one_host) values.emplace_back("NCCL_SOCKET_IFNAME", "lo");
  // NCCL refuses two ranks of one host with one GPU ("Duplicate GPU detected").
  const auto with_own_gpu = std::count_if(ranks.begin(), ranks.end(),
                                          [&](const RankPlace& one) { return same_gpu(one, own); });
  if (with_own_gpu > 1) {
    values.emplace_back("NCCL_HOSTID", fmt::format("{}-rank-{}", own.host, rank));
  }
  return values;
}

TransportChoice choose_transport(World& world, Transport wanted, const BackendInfo& device) {
  if (world.size() == 1) return {};
  const Host& host = world.hosts()[static_cast<std::size_t>(world.rank())];
  const auto ranks = gather(world, RankPlace{host.name, device.kind, device.device_id});
  std::string obstacle = obstacle_to_nccl(wanted, ranks);
  if (wanted == Transport::mpi || !obstacle.empty()) return decide(wanted, ranks, obstacle);
  for (const auto& [name, value] : nccl_environment(world.rank(), ranks)) {
    setenv(name.c_str(), value.c_str(), 0);
  }
  std::string problem;
  try {
    load_nccl();
  } catch (const NcclUnavailable& unavailable) {
    problem = unavailable.what();
  }
  const std::vector<std::string> problems = gather(world, problem);
  for (std::size_t rank = 0; rank < problems.size() && obstacle.empty(); ++rank) {
    if (!problems[rank].empty()) obstacle = fmt::format("rank {}: {}", rank, problems[rank]);
  }
  return decide(wanted, ranks, obstacle);
}

std::unique_ptr<DeviceChannel> connect_nccl(World& world, Backend& backend,
                                            std::chrono::milliseconds deadline) {
  constexpr std::chrono::milliseconds kGrace{2000};
  const NcclLibrary library = load_nccl();
  const auto rank = static_cast<std::size_t>(world.rank());
  const auto last = static_cast<std::size_t>(world.size()) - 1;
  std::string own;
  if (rank < last) library.make_id(&own);
  const std::vector<std::string> ids = gather(world, own);  // by the lower rank of each pair
  NcclEnds ends{&backend, world.rank(), nullptr, nullptr, deadline, kGrace};
  if (rank > 0) ends.from_previous = &ids[rank - 1];
  if (rank < last) ends.to_next = &ids[rank];
  std::unique_ptr<DeviceChannel> channel;
  library.connect(&ends, &channel);
  return channel;
}

}  // namespace sluice::comm
