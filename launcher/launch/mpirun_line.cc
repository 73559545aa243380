#include "launcher/launch/mpirun_line.h"

#include <fmt/format.h>

#include <filesystem>

namespace sluice::launcher {

std::vector<std::string> rank_command(const RankStart& start, const std::string& program,
                                      const std::vector<std::string>& words) {
  std::vector<std::string> command;
  const auto add = [&command](std::initializer_list<std::string> more) {
    command.insert(command.end(), more);
  };
  if (start.ranks > 1 || !start.is_one_host) {
    add({"mpirun"});
    if (start.is_root) add({"--allow-run-as-root"});
    // One core for a rank, Open MPI's default, is too little for a rank with threads.
    add({"--bind-to", "none"});
    if (!start.hosts.empty()) add({"--host", start.hosts});
    if (!start.hostfile.empty()) add({"--hostfile", start.hostfile});
    if (start.is_one_host) {
      add({"--oversubscribe", "--mca", "btl", "self,vader"});
    } else if (!start.interface.empty()) {
      add({"--mca", "btl_tcp_if_include", start.interface, "--mca", "oob_tcp_if_include",
           start.interface, "-x", fmt::format("NCCL_SOCKET_IFNAME={}", start.interface)});
    }
    add({"-n", std::to_string(start.ranks)});
  }
  command.push_back(program);
  command.insert(command.end(), words.begin(), words.end());
  return command;
}

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

}  // namespace sluice::launcher
