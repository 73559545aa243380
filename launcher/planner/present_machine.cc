#include "launcher/planner/present_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/machine/host_memory.h"
#include "launcher/planner/machine_file.h"
#include "launcher/planner/prediction.h"

namespace sluice::launcher {

Machine machine_for(const std::filesystem::path& file, const char* what) {
  std::optional<Machine> machine = find_machine(file);
  if (!machine) {
    throw ConfigError(
        "--machine: this machine has no file in the cache folder; name one (there are some in "
        "cluster-configs/machines), or let sluice calibrate measure it");
  }
  if (!predicts(*machine)) {
    throw ConfigError(
        fmt::format("the machine file of '{}' says nothing of products or of links; {} needs both",
                    machine->name, what));
  }
  return *std::move(machine);
}

void fit_to_available_memory(Machine& machine) {
  const std::uint64_t available = available_memory();
  if (available > 0) machine.host.memory = std::min(machine.host.memory, available);
  for (const GroupLimit& limit : memory_limits()) {
    machine.host.memory = std::min(machine.host.memory, static_cast<std::uint64_t>(limit.amount));
  }
}

Machine with_ranks_of(const comm::World& world, Machine machine) {
  std::map<std::string, std::int32_t> ranks;
  for (const comm::Host& host : world.hosts()) ++ranks[host.name];
  machine.hosts = std::max(static_cast<std::int32_t>(ranks.size()), 1);
  machine.devices = 1;
  for (const auto& [name, count] : ranks) machine.devices = std::max(machine.devices, count);
  return machine;
}

}  // namespace sluice::launcher
