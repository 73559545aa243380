#include "launcher/machine/host_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "comm/gather.h"
#include "kernels/device/error.h"
#include "launcher/machine/rank_names.h"
#include "offload/memory_plan.h"

namespace sluice::launcher {

namespace {

using offload::human_bytes;

/// Ranks that take from one place, and what that can give.
struct Sharing {
  std::string group;  // empty: the machine
  std::vector<std::size_t> ranks;
  std::uint64_t wanted = 0;
  std::uint64_t there = UINT64_MAX;
};

void add(Sharing& sharing, std::size_t rank, std::uint64_t wanted, std::uint64_t there) {
  sharing.ranks.push_back(rank);
  // Plans of a wrong configuration may be larger than anything: they must not wrap.
  if (__builtin_add_overflow(sharing.wanted, wanted, &sharing.wanted)) sharing.wanted = UINT64_MAX;
  sharing.there = std::min(sharing.there, there);
}

/// The machine first, then its control groups.
std::vector<Sharing> sharings_of(const std::string& host, const std::vector<RankMemory>& ranks) {
  Sharing machine;
  std::map<std::uint64_t, Sharing> groups;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankMemory& memory = ranks[rank];
    if (memory.host != host) continue;
    add(machine, rank, memory.wanted, memory.available > 0 ? memory.available : UINT64_MAX);
    for (const GroupLimit& limit : memory.limits) {
      Sharing& group = groups[limit.id];
      group.group = limit.name;
      // A group may be seen by two mounts.
      if (!group.ranks.empty() && group.ranks.back() == rank) continue;
      add(group, rank, memory.wanted, static_cast<std::uint64_t>(limit.amount));
    }
  }
  std::vector<Sharing> all{machine};
  for (auto& [id, group] : groups) all.push_back(std::move(group));
  return all;
}

std::string refusal(const std::string& host, const Sharing& sharing,
                    const std::vector<RankMemory>& ranks) {
  bool with_device_tier = false;
  std::string parts;
  for (const std::size_t rank : sharing.ranks) {
    with_device_tier = with_device_tier || ranks[rank].with_device_tier;
    parts += fmt::format("{}rank {} {}", parts.empty() ? "" : ", ", rank,
                         human_bytes(ranks[rank].wanted));
  }
  const bool several = sharing.ranks.size() > 1;
  std::string wanted = human_bytes(sharing.wanted);
  std::string there = human_bytes(sharing.there);
  if (wanted == there) {  // rounding would hide what is missing
    wanted += fmt::format(" ({} bytes)", sharing.wanted);
    there += fmt::format(" ({} bytes)", sharing.there);
  }
  const std::string limit =
      sharing.group.empty()
          ? "available there"
          : fmt::format("left by the memory limit of their control group {}", sharing.group);
  return fmt::format(
      "host {}: {} {} {} of its memory ({}{}), but only {} are {}; {}set {} to fit, move shares to "
      "disk (policy.weights, policy.cache), lower batching.gpu_batch_size{}",
      host, names_of(sharing.ranks), several ? "plan" : "plans", wanted,
      with_device_tier ? "tiers device and host" : "tier host", several ? ": " + parts : "", there,
      limit, sharing.group.empty() ? "" : "ask the batch system for more (Slurm: --mem), ",
      with_device_tier ? "budget.device and budget.host" : "budget.host",
      several ? ", or start fewer ranks there" : "");
}

void check_host(const std::string& host, const std::vector<RankMemory>& ranks) {
  const std::vector<Sharing> sharings = sharings_of(host, ranks);
  const Sharing* tightest = nullptr;
  for (const Sharing& sharing : sharings) {
    if (sharing.wanted <= sharing.there) continue;
    if (tightest == nullptr || sharing.there < tightest->there) tightest = &sharing;
  }
  if (tightest != nullptr) throw CapacityError(refusal(host, *tightest, ranks));
}

}  // namespace

std::uint64_t available_memory(const std::filesystem::path& root) {
  std::ifstream file(root / "proc/meminfo");
  std::string key, unit;
  for (std::uint64_t kilobytes = 0; file >> key >> kilobytes; std::getline(file, unit)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

void check_hosts(const std::vector<RankMemory>& ranks) {
  for (const RankMemory& rank : ranks) check_host(rank.host, ranks);
}

void check_hosts(comm::World& world, std::uint64_t wanted, bool with_device_tier) {
  const RankMemory own{world.hosts()[static_cast<std::size_t>(world.rank())].name, wanted,
                       with_device_tier, available_memory(), memory_limits()};
  check_hosts(comm::gather(world, own));
}

}  // namespace sluice::launcher
