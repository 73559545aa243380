#include "launcher/config/launch_arguments.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace sluice::launcher {

bool stays_on_host(const RankStart& start,
                   const std::function<const char*(const char*)>& variable) {
  if (!start.hosts.empty() || !start.hostfile.empty()) return false;
  // Files of other schedulers list hosts; how many is mpirun's to know.
  for (const char* name : {"PBS_NODEFILE", "LSB_DJOB_HOSTFILE", "PE_HOSTFILE", "COBALT_NODEFILE"}) {
    if (variable(name) != nullptr) return false;
  }
  const char* const nodes = variable("SLURM_JOB_NUM_NODES");
  int count = 1;
  if (nodes != nullptr) std::from_chars(nodes, nodes + std::strlen(nodes), count);
  return count == 1;
}

std::vector<std::string>::const_iterator find_run(const std::vector<std::string>& words) {
  return std::ranges::find_if(words, [](const std::string& word) {
    return word == "generate" || word == "score" || word == "serve";
  });
}

}  // namespace sluice::launcher
