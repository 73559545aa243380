#include <algorithm>

#include "launcher/config/commands/pages.h"
#include "launcher/config/commands/run_flags.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice simulate --model DIR|ID --machine FILE --prompt-len N --gen-len N [FLAGS]

Example:
  OPT-30B on four machines with a T4 each, by FlexGen's policy:
    sluice simulate --model facebook/opt-30b --weights dummy --ranks 4 --prompt-len 512 \
        --gen-len 32 --machine cluster-configs/machines/4-hosts-t4.yaml \
        --percent 8 92 0 100 0 100 --cpu-cache-compute --gpu-batch-size 64 --num-gpu-batches 3

Nothing is loaded or run. Flags are those of generate; the report and the trace have its form.

)";
}

/// Those of a run, but for what says to do without one.
std::vector<FlagGroup> flags() {
  std::vector<FlagGroup> groups = generate_page().flags();
  for (FlagGroup& group : groups) {
    std::erase_if(group.flags, [](const FlagHelp& help) {
      return help.flag == "--print-config" || help.flag == "--dry-run" || help.flag == "--schedule";
    });
  }
  groups.insert(groups.begin() + 1,
                {"In the place of mpirun",
                 {{"--ranks", "N", "ranks, one for each stage [1, or as many as --config has]"}}});
  return groups;
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::simulate;
  read_run_config(given, words, "simulate", parsed.config);
  std::vector<std::string> problems = contradictions(parsed.config, false);
  read_count(given, "--ranks", 1, parsed.ranks, problems);
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& simulate_page() {
  static const CommandPage page = {
      "simulate", "Says how long a run would take, on this machine or another", usage, flags, read};
  return page;
}

}  // namespace sluice::launcher
