// How the ranks of a run are started, by Open MPI's mpirun.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace sluice::launcher {

struct RankStart {
  int ranks = 1;
  std::string hosts;      // mpirun's --host; empty: none
  std::string hostfile;   // likewise
  std::string interface;  // that hosts talk over; empty: what Open MPI takes
  bool is_root = false;
  bool is_one_host = true;
};

/// Whether nothing says that the ranks go to other hosts: neither flags, nor the variables of a
/// scheduler that gave several.
bool stays_on_host(const RankStart& start, const std::function<const char*(const char*)>& variable);

/// The command line that starts `program` with `words`: by mpirun, or where one rank stays on this
/// host, alone. On one host no rank listens; mpirun itself cannot be kept from it.
std::vector<std::string> rank_command(const RankStart& start, const std::string& program,
                                      const std::vector<std::string>& words);

/// The path of this program.
std::string own_program();

}  // namespace sluice::launcher
