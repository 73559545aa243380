#include "launcher/config/cli_help.h"

#include <algorithm>

namespace sluice::launcher {

std::string main_usage() {
  return R"(
Usage:
  sluice COMMAND [FLAGS]
  mpirun -n STAGES --bind-to none sluice generate [FLAGS]

Examples:
  sluice generate --model facebook/opt-1.3b --prompt "The capital of France is"
  sluice inspect ./opt-30b --device-memory 24GiB --host-memory 128GiB --stages 2

`sluice COMMAND --help` says more. Configuration files: docs/configuration.md.

)";
}

std::string exit_statuses() {
  return R"(Exit status:
  0  done                                        5  another rank was lost
  1  failed at run time (I/O, device)            6  done, but some rows failed
  2  wrong flag or configuration                75  stopped on request (SIGTERM, SIGUSR1, time
  3  bad model or input file                        limit); go on with --resume
  4  a memory tier or a disk is too small    128+n  ended by signal n)";
}

std::string wrapped(const std::string& text, std::size_t width) {
  std::string lines;
  std::size_t column = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t blank = std::min(text.find(' ', at), text.size());
    const std::size_t length = blank - at;
    if (column > 0) {
      const bool fits = column + 1 + length <= width;
      lines += fits ? ' ' : '\n';
      column = fits ? column + 1 : 0;
    }
    lines.append(text, at, length);
    column += length;
    at = blank + 1;
  }
  return lines;
}

}  // namespace sluice::launcher
