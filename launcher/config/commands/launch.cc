#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "launcher/config/commands/pages.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice launch -n STAGES [FLAGS] generate FLAGS OF GENERATE
  sluice launch -n STAGES [FLAGS] score FLAGS OF SCORE
  sluice launch -n STAGES [FLAGS] serve FLAGS OF SERVE

Examples:
  A job over night on four GPUs, started again where a rank is lost:
    sluice launch -n 4 generate --model ./opt-30b --input prompts.jsonl --output answers.jsonl
  Over two hosts with two GPUs each:
    sluice launch -n 4 --host a:2,b:2 --interface eth0 generate --config cluster.yaml

Prints the mpirun line that it runs. A run that loses a rank, or fails at run time, is started
again with --resume, after 1, 2, 4, ... 60 s; statuses 2, 3 and 4 end it at once, and so do five
restarts in a row that bring nothing new. SIGTERM, SIGUSR1 and Ctrl-C reach the ranks once: they
stop with all that was made kept, and launch ends with 75 (Ctrl-C: 130). A second Ctrl-C ends
them at once. More: docs/reliability.md.

)";
}

std::vector<FlagGroup> flags() {
  return {{"How the ranks are started",
           {{"--ranks,-n", "N", "ranks, one for each stage [1, or as many as --config has]"},
            {"--max-restarts", "N", "most restarts in all [10]"},
            {"--host", "LIST", "hosts of the ranks, as mpirun takes them: a:2,b:2"},
            {"--hostfile", "FILE", "the same in a file, one host per line: a slots=2"},
            {"--interface", "NAME", "network interface that hosts talk over"}}}};
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  std::vector<std::string> problems;
  given.check("launch", words, problems);
  const auto run = find_run(words);
  if (problems.empty() && run == words.end()) {
    problems.emplace_back(
        "launch what? Give generate, score or serve with its flags, after those of launch");
  }
  LaunchArguments& arguments = parsed.launch;
  RankStart& start = arguments.start;
  read_count(given, "--ranks", 1, start.ranks, problems);
  read_count(given, "--max-restarts", 0, arguments.max_restarts, problems);
  start.hosts = given.value("--host");
  start.hostfile = given.value("--hostfile");
  start.interface = given.value("--interface");
  start.is_root = ::geteuid() == 0;
  start.is_one_host = stays_on_host(start, [](const char* name) { return std::getenv(name); });
  if (!start.hosts.empty() && !start.hostfile.empty()) {
    problems.emplace_back("--host and --hostfile both say where the ranks go: give one of them");
  }
  if (!start.interface.empty() && start.is_one_host) {
    problems.emplace_back("--interface: is for several hosts; on one, ranks talk through memory");
  }
  if (!problems.empty()) refuse(problems);

  // What is wrong with the run is said here, before anything is started.
  std::vector<const char*> arguments_of_run = {words.front().c_str()};
  for (auto word = run; word != words.end(); ++word) arguments_of_run.push_back(word->c_str());
  ParsedCommand of_run =
      parse_command_line(static_cast<int>(arguments_of_run.size()), arguments_of_run.data());
  if (of_run.command == Command::print) {
    parsed.text = of_run.text;
    return;
  }
  parsed.command = Command::launch;
  arguments.words.assign(run, words.end());
  arguments.config = std::move(of_run.config);
  if (!given.has("--ranks"))
    start.ranks = std::max<int>(1, static_cast<int>(arguments.config.stages.size()));
}

}  // namespace

const CommandPage& launch_page() {
  static const CommandPage page = {
      "launch", "Starts the ranks of a run, and starts them again where one is lost", usage, flags,
      read};
  return page;
}

}  // namespace sluice::launcher
