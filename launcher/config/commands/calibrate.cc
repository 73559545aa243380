
#include "launcher/config/commands/pages.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice calibrate [FLAGS]
  mpirun -n RANKS --bind-to none sluice calibrate [FLAGS]

Examples:
  sluice calibrate
  mpirun -n 2 --bind-to none sluice calibrate --directory /scratch

One rank measures products, attention, links, memory and disk, for about a minute; nothing else
should run meanwhile. With several ranks messages between them are measured, too.

)";
}

std::vector<FlagGroup> flags() {
  return {{"Flags",
           {{"--output", "FILE",
             "the machine file; without it: machine-HOST-PROCESSOR.yaml in $XDG_CACHE_HOME/sluice "
             "or ~/.cache/sluice, where other commands look for it"},
            {"--device", "NAME", "auto, cpu, cuda or cuda:N [auto]"},
            {"--threads", "N", "threads of a CPU; 0: all that the process may use [0]"},
            {"--directory", "DIR",
             "folder whose disk is measured, that of offload files; 128 MiB are written there "
             "[$TMPDIR, or the working folder]"},
            {"--quiet", "", "show no progress"}}}};
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::calibrate;
  CalibrateArguments& arguments = parsed.calibrate;
  std::vector<std::string> problems;
  given.check("calibrate", words, problems);
  arguments.output = given.value("--output");
  if (given.has("--device")) arguments.device = given.value("--device");
  read_count(given, "--threads", 0, arguments.threads, problems);
  arguments.directory = given.value("--directory");
  if (arguments.directory.empty()) arguments.directory = offload_directory({}).string();
  arguments.quiet = given.has("--quiet");
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& calibrate_page() {
  static const CommandPage page = {
      "calibrate", "Measures this machine in about a minute, for plans", usage, flags, read};
  return page;
}

}  // namespace sluice::launcher
